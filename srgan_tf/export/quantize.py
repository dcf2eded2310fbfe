"""8-bit quantization: ranges measured on photos, and graphs with rounded numbers.

Rounding is as follows (docs/export.md has its effects on srresnet-mse):

- Weights are rounded to 8 bits with one scale per output channel, up or down such that their
  errors cancel on photos.
- The inputs of convolutions are rounded to 8 bits with one scale per tensor, over the full range:
  ranges clipped at quantiles or by least squares cost more. With leaky ReLU, all outputs of
  convolutions are rounded too, and clipping a little costs less.
- With residual blocks, the first layer (1 % of the work) and the blocks' sums, each of which would
  add an error, stay in float (the first layer's weights are rounded nevertheless). In a chain
  without sums, where the next layer would round a float layer's output anyway, all is rounded.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import tensorflow as tf

from srgan_tf.export.graph import Graph

Ranges = dict[str, tuple[float, float]]

_FLOAT_LAYER = "head"
# Share of the ranges before and after a leaky ReLU. On photos held out of training, srgan-mobile
# loses 0.103 dB, and 0.139 dB with the full ranges.
_LEAKY_RANGE = 0.85
# For tensors that are always zero, as the residual blocks of a new generator.
_MIN_RANGE = 1e-6
_SWEEPS = 4
# Every third row and column is enough, and covers both phases of a pixel shuffle.
_STRIDE = 3
# Added to every input's power, as a share of the mean, so that few photos can't move weights far.
_DAMPING = 1e-2


def float_layers(graph: Graph) -> list[str]:
    """Return the names of the layers that stay in float."""
    return [_FLOAT_LAYER] if any(layer.add is not None for layer in graph.layers) else []


def measure_ranges(graph: Graph, photos: Iterable[np.ndarray]) -> Ranges:
    """Measure the range, including 0, of every tensor that `Graph` passes to its hook, on photos.

    Args:
        graph: to measure.
        photos: batches, float32 [N, H, W, 3] in [0, 1].
    """
    ranges: Ranges = {}

    def hook(name: str, x: tf.Tensor) -> tf.Tensor:
        low, high = ranges.get(name, (0.0, 0.0))
        ranges[name] = min(low, float(tf.reduce_min(x))), max(high, float(tf.reduce_max(x)))
        return x

    for batch in photos:
        graph(tf.constant(batch), hook)
    return ranges


def round_weights(graph: Graph, photos: Iterable[np.ndarray]) -> Graph:
    """Round a graph's kernels to the 255 levels of 8 bits, with one scale per output channel.

    Weights are rounded such that a layer's outputs on the photos change least: coordinate descent
    minimizes eᵀHe, with the errors e of an output channel's weights and the second moments H of
    their inputs (Nagel et al. 2020, Up or Down?, section 3.2, and Behdin et al. 2023, QuantEase).
    The largest weight, which sets the scale, is fixed.

    Args:
        graph: to round.
        photos: batches, float32 [N, H, W, 3] in [0, 1].
    """
    moments = _second_moments(graph, photos)
    return replace(
        graph,
        layers=tuple(
            replace(layer, kernel=_round_kernel(layer.kernel, moments.pop(layer.name)))
            for layer in graph.layers
        ),
    )


def _second_moments(graph: Graph, photos: Iterable[np.ndarray]) -> dict[str, np.ndarray]:
    """Compute the second moments of each layer's patches, float64 [n, n], n = kh·kw·channels in."""
    after = {"input": (graph.layers[0], 1)}
    for layer, following in zip(graph.layers, graph.layers[1:], strict=False):
        after[layer.name] = following, layer.shuffle
    moments: dict[str, np.ndarray] = {}

    def hook(name: str, x: tf.Tensor) -> tf.Tensor:
        if name in after:
            layer, shuffle = after[name]
            y = tf.nn.depth_to_space(x, shuffle) if shuffle > 1 else x
            size, strides = [1, *layer.kernel.shape[:2], 1], [1, _STRIDE, _STRIDE, 1]
            patches = tf.image.extract_patches(y, size, strides, [1, 1, 1, 1], "SAME")
            patches = tf.reshape(patches, [-1, patches.shape[3]])
            products = tf.matmul(patches, patches, transpose_a=True).numpy()
            moments[layer.name] = moments.get(layer.name, 0.0) + products.astype(np.float64)
        return x

    for batch in photos:
        graph(tf.constant(batch), hook)
    return moments


def _round_kernel(kernel: np.ndarray, moments: np.ndarray) -> np.ndarray:
    weights = kernel.reshape(-1, kernel.shape[3]).astype(np.float64)
    steps = _limits(kernel).astype(np.float64) / 127
    moves = np.abs(weights) < np.abs(weights).max(0)
    moments = moments + np.eye(len(moments)) * (_DAMPING * np.trace(moments) / len(moments) + 1e-12)
    levels = np.rint(weights / steps)
    errors = levels * steps - weights
    for _ in range(_SWEEPS):
        for index, row in enumerate(moments):
            best = levels[index] - moves[index] * np.rint(row @ errors / (row[index] * steps))
            change = np.clip(best, -127, 127) - levels[index]
            levels[index] += change
            errors[index] += change * steps
    return (levels * steps).astype(np.float32).reshape(kernel.shape)


def _limits(kernel: np.ndarray) -> np.ndarray:
    """Return the largest absolute weight of each output channel."""
    return np.maximum(np.abs(kernel).max((0, 1, 2)), _MIN_RANGE)


class FakeQuantGraph:
    """A graph that rounds numbers as an 8-bit runtime does.

    It uses `tf.quantization.fake_quant_*` operations, which TensorFlow Lite's converter turns
    into integer kernels.

    Args:
        graph: in its 8-bit form.
        ranges: of its tensors.
        only: names of tensors, or LAYER.weights, to round; None for all.
    """

    def __init__(self, graph: Graph, ranges: Ranges, only: set[str] | None = None):
        self._graph, self._only = graph, only
        self._float_layers = float_layers(graph)
        self._ranges = dict(ranges)
        for layer in graph.layers:
            before = f"{layer.name}.conv"
            if before not in self._ranges or self._is_float(layer.name):
                continue
            both = self._ranges[before], self._ranges[layer.name]
            if layer.one_slope:
                for name, (low, high) in zip((before, layer.name), both, strict=True):
                    self._ranges[name] = _LEAKY_RANGE * low, _LEAKY_RANGE * high
            else:  # the integer max(·, ·) needs operands of one scale
                union = min(low for low, _ in both), max(high for _, high in both)
                self._ranges[before] = self._ranges[layer.name] = union
        self._ranges["input"] = self._ranges[graph.layers[-1].name] = 0.0, 1.0
        for layer in graph.layers:
            if layer.anchor is not None:  # with the input's scale, so it is not rounded again
                self._ranges[f"{layer.name}.anchor"] = 0.0, 1.0
        for name, (low, high) in self._ranges.items():
            self._ranges[name] = low, max(high, low + _MIN_RANGE)

    def __call__(self, lr: tf.Tensor) -> tf.Tensor:
        """Enlarge float32 [N, H, W, 3] in [0, 1] to [N, scale·H, scale·W, 3] in [0, 1]."""
        return self._graph(
            lr, self._round, self._round_weights, exact_sums=bool(self._float_layers)
        )

    def _round(self, name: str, x: tf.Tensor) -> tf.Tensor:
        within_float_layer = "." in name and self._is_float(name)
        if within_float_layer or self._skips(name):
            return x
        low, high = self._ranges[name]
        return tf.quantization.fake_quant_with_min_max_args(x, low, high)

    def _round_weights(self, name: str, kernel: np.ndarray) -> tf.Tensor | np.ndarray:
        if self._is_float(name) or self._skips(f"{name}.weights"):
            return kernel
        limit = _limits(kernel)
        return tf.quantization.fake_quant_with_min_max_vars_per_channel(
            kernel, -limit, limit, narrow_range=True
        )

    def _is_float(self, name: str) -> bool:
        return name.split(".")[0] in self._float_layers

    def _skips(self, name: str) -> bool:
        return self._only is not None and name not in self._only
