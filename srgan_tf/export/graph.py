"""A generator's inference graph: a chain of convolutions.

Batch normalization is folded into the convolutions before it, and PReLU can become `max(x, a·x)`,
which every runtime supports in any number format. The result does not change.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

import keras
import numpy as np
import tensorflow as tf

from srgan_tf.errors import UserError
from srgan_tf.models import ECBSR, Generator, SRResNet
from srgan_tf.models.ecbsr import EdgeConv2D

# Centre taps larger than the 99.9% quantile of other taps by this factor are computed separately.
_OUTLIER = 3.0


def prelu_operation(x: tf.Tensor, slopes: np.ndarray) -> tf.Tensor:
    """Compute PReLU in the form that TensorFlow Lite's converter turns into PRELU."""
    return tf.nn.relu(x) + -slopes.reshape(1, 1, -1) * tf.nn.relu(-x)


def maximum_prelu(x: tf.Tensor, slopes: np.ndarray) -> tf.Tensor:
    """Compute PReLU, as max(x, a·x) if no slope is above 1."""
    return tf.maximum(x, slopes * x) if slopes.max() <= 1 else prelu_operation(x, slopes)


@dataclass(frozen=True)
class Layer:
    """conv(x) + bias, then PReLU, then additions, then a pixel shuffle.

    Attributes:
        name: of the layer in the generator.
        kernel: float32 [kh, kw, channels in, channels out].
        bias: float32 [channels out].
        centre: kernel of a parallel 1×1 convolution, float32 [1, 1, channels in, channels out], or
            None.
        slopes: of PReLU, float32 [channels out]; all 0 for ReLU, all equal for a leaky ReLU; None
            for no activation.
        columns: number of groups of output channels that are shifted by their column and summed; 1
            for none.
        add: index of the earlier layer whose output is added, or None.
        anchor: kernel of a convolution of the input that is added, float32 [1, 1, 3, channels
            out], or None.
        shuffle: factor of the pixel shuffle (`depth_to_space`); 1 for none.
    """

    name: str
    kernel: np.ndarray
    bias: np.ndarray
    centre: np.ndarray | None = None
    slopes: np.ndarray | None = None
    columns: int = 1
    add: int | None = None
    anchor: np.ndarray | None = None
    shuffle: int = 1

    @property
    def one_slope(self) -> bool:
        """Whether all channels have the same slope, as of a leaky ReLU."""
        return self.slopes is not None and np.ptp(self.slopes) == 0


@dataclass(frozen=True)
class Graph:
    """A chain of layers.

    Attributes:
        layers: in order.
        scale: ratio of the output's side to the input's.
        radius: of the receptive field, in LR pixels.
        upsample_radius: radius of the receptive field in features; see `split_before_shuffle`.
    """

    layers: tuple[Layer, ...]
    scale: int
    radius: int
    upsample_radius: int

    def __call__(
        self,
        lr: tf.Tensor,
        hook: Callable[[str, tf.Tensor], tf.Tensor] = lambda _, x: x,
        weights: Callable[[str, np.ndarray], tf.Tensor | np.ndarray] = lambda _, kernel: kernel,
        shuffle: Callable[[tf.Tensor, int], tf.Tensor] = tf.nn.depth_to_space,
        prelu: Callable[[tf.Tensor, np.ndarray], tf.Tensor] = maximum_prelu,
        exact_sums: bool = True,
    ) -> tf.Tensor:
        """Run the layers.

        Args:
            lr: float32 [N, H, W, 3] in [0, 1].
            hook: called with the name and value of every intermediate tensor, and returns the value
                to use. Names are `input`, LAYER.conv (before a PReLU), LAYER.centre, LAYER.anchor,
                LAYER.branch (before an addition) and LAYER (the layer's output).
            weights: called with LAYER, LAYER.centre or LAYER.anchor and the kernel; returns the
                kernel to use.
            shuffle: the pixel shuffle.
            prelu: PReLU, of a tensor and slopes that differ.
            exact_sums: additions use a layer's output before `hook`, not after it.

        Returns:
            float32 [N, scale·H, scale·W, 3] nominally in [0, 1], not clipped.
        """
        outputs: list[tf.Tensor] = []
        x = photo = hook("input", lr)
        for layer in self.layers:
            y = tf.nn.conv2d(x, weights(layer.name, layer.kernel), 1, "SAME") + layer.bias
            if layer.columns > 1:
                y = _add_columns(y, layer.columns)
            if layer.centre is not None:
                y = hook(f"{layer.name}.branch", y)
                name = f"{layer.name}.centre"
                y += hook(name, tf.nn.conv2d(x, weights(name, layer.centre), 1, "SAME"))
            if layer.slopes is not None:
                if not layer.slopes.any():
                    y = tf.nn.relu(y)
                elif layer.one_slope:
                    y = tf.nn.leaky_relu(hook(f"{layer.name}.conv", y), layer.slopes[0])
                else:
                    y = prelu(hook(f"{layer.name}.conv", y), layer.slopes)
            if layer.add is not None:
                y = hook(f"{layer.name}.branch", y) + outputs[layer.add]
            if layer.anchor is not None:
                y = hook(f"{layer.name}.branch", y)
                name = f"{layer.name}.anchor"
                y += hook(name, tf.nn.conv2d(photo, weights(name, layer.anchor), 1, "SAME"))
            x = hook(layer.name, y)
            outputs.append(y if exact_sums else x)
            if layer.shuffle > 1:
                x = shuffle(x, layer.shuffle)
        return x


def require_exportable(generator: Generator) -> None:
    """Raise UserError unless a generator is an SRResNet or ECBSR."""
    if not isinstance(generator, SRResNet | ECBSR):
        raise UserError(
            f"{type(generator).__name__} can't be exported, only SRResNet and ECBSR, that is, the "
            "srresnet- and srgan- generators"
        )


def inference_graph(generator: Generator, eight_bit: bool = False) -> Graph:
    """Return the graph of a built generator.

    Args:
        generator: an SRResNet or ECBSR.
        eight_bit: in a form suited to 8-bit weights and activations: large centre taps of the
            first and the last kernel, which pass colours through, are computed separately, as all
            other taps would round to zero beside them; and the last convolution comes before the
            last pixel shuffle, on a quarter of the positions, which is fastest with integer
            kernels. Otherwise it is computed in columns as in `NarrowConv2D`.

    Raises:
        UserError: another generator.
    """
    require_exportable(generator)
    if isinstance(generator, ECBSR):
        layers = _ecbsr_layers(generator)
    else:
        layers = _srresnet_layers(generator, eight_bit)
    radius = generator.features_radius + generator.upsample_radius
    return Graph(tuple(layers), generator.scale, radius, generator.upsample_radius)


def _srresnet_layers(generator: SRResNet, eight_bit: bool) -> list[Layer]:
    layers = [
        Layer(
            "head",
            *_separate_large_taps(
                _numpy(generator.head.kernel), _numpy(generator.head.bias), eight_bit
            ),
            slopes=_slopes(generator.head_prelu),
        )
    ]
    for index, block in enumerate(generator.trunk):
        conv1, conv2 = _fold(block.conv1, block.bn1), _fold(block.conv2, block.bn2)
        layers += [
            Layer(f"block{index}.conv1", *conv1, slopes=_slopes(block.prelu)),
            Layer(f"block{index}.conv2", *conv2, add=2 * index),
        ]
    layers.append(Layer("trunk", *_fold(generator.trunk_conv, generator.trunk_bn), add=0))
    for index, (conv, prelu) in enumerate(
        zip(generator.upsample_convs, generator.upsample_prelus, strict=True)
    ):
        slopes = np.tile(_slopes(prelu), 4)  # 4 phases of each before the shuffle
        kernel, bias = _numpy(conv.kernel), _numpy(conv.bias)
        layers.append(Layer(f"upsample{index}", kernel, bias, slopes=slopes, shuffle=2))
    # Change the output range to [0, 1].
    kernel, bias = _numpy(generator.tail.kernel) / 2, _numpy(generator.tail.bias) / 2 + 0.5
    tail = Layer("tail", *_separate_large_taps(kernel, bias, eight_bit))
    if eight_bit:
        layers[-1] = replace(layers[-1], shuffle=1)
        layers.append(_before_shuffle(tail, 2))
    else:
        layers.append(_to_columns(tail))
    return layers


def _ecbsr_layers(generator: ECBSR) -> list[Layer]:
    """Return the layers of an ECBSR; its kernels don't pass colours, so they suit 8 bits too."""
    channels = 3 * generator.scale**2
    layers = [
        Layer(
            f"block{index - 1}" if index else "head", *_kernel_and_bias(conv), slopes=_slopes(prelu)
        )
        for index, (conv, prelu) in enumerate(zip(generator.convs, generator.prelus, strict=True))
    ]
    anchor = np.tile(np.eye(3, dtype=np.float32), generator.scale**2).reshape(1, 1, 3, channels)
    layers.append(
        Layer("tail", *_kernel_and_bias(generator.tail), anchor=anchor, shuffle=generator.scale)
    )
    return layers


def _kernel_and_bias(conv: EdgeConv2D) -> tuple[np.ndarray, np.ndarray]:
    return _numpy(conv.kernel), _numpy(conv.bias)


def split_before_shuffle(graph: Graph) -> tuple[Graph, Graph] | None:
    """Split a graph before the first layer with a pixel shuffle.

    Returns:
        The layers at low resolution and the rest; None if all are at low resolution.
    """
    first = next(index for index, layer in enumerate(graph.layers) if layer.shuffle > 1)
    if first == len(graph.layers) - 1:
        return None
    low, high = graph.layers[:first], graph.layers[first:]
    return replace(graph, layers=low), replace(graph, layers=high)


def rescale(graph: Graph, factors: Sequence[np.ndarray | None]) -> Graph:
    """Multiply the channels of layers' outputs by factors that the following layers divide by.

    max(·, a·) commutes with positive factors. A negative one, on a channel with a positive
    slope, makes the slope 1/a.

    Args:
        graph: to rescale.
        factors: for each layer [channels of its output], or None for ones; layers that are
            added need the same factors.
    """
    layers = []
    before = np.ones(graph.layers[0].kernel.shape[2])
    for layer, factor in zip(graph.layers, factors, strict=True):
        inputs, outputs = layer.kernel.shape[2:]
        after = np.ones(outputs) if factor is None else np.tile(factor, outputs // factor.size)
        slopes = layer.slopes
        if slopes is not None:
            flipped = np.where(after < 0, slopes, 1.0)
            after, slopes = after * flipped, np.where(after < 0, 1 / flipped, slopes)
        ratio = after / np.tile(before, inputs // before.size)[:, None]
        layers.append(
            replace(
                layer,
                kernel=_float32(layer.kernel * ratio),
                bias=_float32(layer.bias * after),
                centre=None if layer.centre is None else _float32(layer.centre * ratio),
                slopes=None if slopes is None else _float32(slopes),
            )
        )
        before = np.ones(outputs // layer.shuffle**2) if factor is None else factor
    return replace(graph, layers=tuple(layers))


def streams(graph: Graph) -> list[int]:
    """Return for each layer the index of the first layer that it is added to, or its own."""
    firsts: list[int] = []
    for index, layer in enumerate(graph.layers):
        firsts.append(index if layer.add is None else firsts[layer.add])
    return firsts


def with_low_slopes(graph: Graph, keep: Collection[str] = ()) -> Graph:
    """Flip the sign of channels with a slope above 1, for which max(x, a·x) is not PReLU.

    Args:
        graph: to change.
        keep: names of layers to leave unchanged.
    """
    factors: list[np.ndarray | None] = []
    for first in streams(graph):
        layer = graph.layers[first]
        if layer.slopes is None or layer.name in keep:
            factors.append(None)
            continue
        # The phases of a channel have the same slope.
        channels = graph.layers[first + 1].kernel.shape[2]
        period = min(channels, layer.slopes.size)
        factors.append(np.where(layer.slopes[:period] > 1, -1.0, 1.0))
    return rescale(graph, factors)


def _fold(
    conv: keras.layers.Conv2D, bn: keras.layers.BatchNormalization
) -> tuple[np.ndarray, np.ndarray]:
    """Return kernel and bias of a convolution with the batch normalization after it folded in."""
    scale = _numpy(bn.gamma) / np.sqrt(_numpy(bn.moving_variance) + bn.epsilon)
    return _numpy(conv.kernel) * scale, _numpy(bn.beta) - _numpy(bn.moving_mean) * scale


def _separate_large_taps(
    kernel: np.ndarray, bias: np.ndarray, separate: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Return kernel, bias, and, if `separate`, a kernel of the large centre taps, or None."""
    centre = kernel.shape[0] // 2
    taps = kernel[centre, centre]
    rest = kernel.copy()
    rest[centre, centre] = 0.0
    large = np.abs(taps) > _OUTLIER * np.quantile(np.abs(rest), 0.999)
    if not (separate and large.any()):
        return kernel, bias, None
    rest[centre, centre] = np.where(large, 0.0, taps)
    return rest, bias, np.where(large, taps, 0.0)[None, None]


def _before_shuffle(layer: Layer, factor: int) -> Layer:
    """Convert a k×k convolution after a pixel shuffle to a smaller one before it.

    Outputs have one channel group per phase; tap t, counted from the centre, reads for phase p
    the phase (p + t) mod factor of the pixel at offset ⌊(p + t) / factor⌋.
    """
    size, _, inputs, outputs = layer.kernel.shape
    reach = -(-(size // 2) // factor)
    phases = factor**2
    kernel = np.zeros(
        (2 * reach + 1, 2 * reach + 1, factor, factor, inputs, factor, factor, outputs)
    )
    for row, column, i, j in np.ndindex(factor, factor, size, size):
        y, phase_row = divmod(row + i - size // 2, factor)
        x, phase_column = divmod(column + j - size // 2, factor)
        kernel[reach + y, reach + x, phase_row, phase_column, :, row, column] = layer.kernel[i, j]
    centre = layer.centre
    if centre is not None:
        centre = _float32(np.kron(np.eye(phases), centre[0, 0])[None, None])
    return replace(
        layer,
        kernel=_float32(kernel.reshape(*kernel.shape[:2], phases * inputs, phases * outputs)),
        bias=np.tile(layer.bias, phases),
        centre=centre,
        shuffle=factor,
    )


def _to_columns(layer: Layer) -> Layer:
    """Convert a k×k convolution to few channels to k×1 with k·channels and a sum."""
    size, _, inputs, outputs = layer.kernel.shape
    kernel = layer.kernel.transpose(0, 2, 1, 3).reshape(size, 1, inputs, size * outputs)
    bias = np.zeros((size, outputs), np.float32)
    bias[size // 2] = layer.bias  # the unshifted column, which is not padded at borders
    return replace(layer, kernel=kernel, bias=bias.reshape(-1), columns=size)


def _add_columns(x: tf.Tensor, columns: int) -> tf.Tensor:
    """Shift by a depthwise convolution, then sum by a 1×1 one: faster than one 1×k for both."""
    channels = x.shape[3]
    group = np.arange(channels) // (channels // columns)
    shifts = _float32(group == np.arange(columns)[:, None])[None, :, :, None]
    shifted = tf.nn.depthwise_conv2d(x, shifts, [1, 1, 1, 1], "SAME")
    sums = np.tile(np.eye(channels // columns, dtype=np.float32), (columns, 1))[None, None]
    return tf.nn.conv2d(shifted, sums, 1, "SAME")


def _slopes(prelu: keras.layers.PReLU) -> np.ndarray:
    return _numpy(prelu.alpha).reshape(-1)


def _numpy(variable) -> np.ndarray:
    return variable.numpy()


def _float32(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float32)
