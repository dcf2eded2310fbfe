"""HR to LR: bicubic resizing that equals MATLAB's `imresize`.

Resizing along one axis is a matrix product, so an image is resized by two of them,
in the graph or out of it. As MATLAB does for uint8 images, rows come first, each pass
rounds to whole grey levels, and the pixels at the border are repeated outwards: this
reproduces the published LR images of Set5, Set14 and BSD100 bit for bit.
"""

import functools
import math

import numpy as np
import tensorflow as tf


def bicubic_downscale(images, scale: int) -> tf.Tensor:
    """Degrades HR images as MATLAB's `imresize(images, 1/scale)` does, with antialiasing.

    Args:
        images: [..., H, W, C], uint8 or float in [0, 255]; H and W multiples of `scale`.
        scale: 2, 4 or 8.

    Returns:
        float32 [..., H/scale, W/scale, C]: whole numbers in [0, 255].

    Raises:
        ValueError: H or W is not a multiple of `scale`.
    """
    height, width = images.shape[-3], images.shape[-2]
    if height % scale or width % scale:
        raise ValueError(f"{height}×{width} is not a multiple of the scale {scale}")
    return _resize(images, height // scale, width // scale)


def bicubic_upscale(images, scale: int) -> tf.Tensor:
    """Enlarges images as MATLAB's `imresize(images, scale)` does.

    Args:
        images: [..., H, W, C], uint8 or float in [0, 255].
        scale: an integer of at least 1.

    Returns:
        float32 [..., scale·H, scale·W, C]: whole numbers in [0, 255].
    """
    return _resize(images, scale * images.shape[-3], scale * images.shape[-2])


def _resize(images, height: int, width: int) -> tf.Tensor:
    images = tf.cast(images, tf.float32)
    rows = tf.constant(_weights(images.shape[-3], height))
    columns = tf.constant(_weights(images.shape[-2], width))
    resized = _to_grey_levels(tf.einsum("oh,...hwc->...owc", rows, images))
    return _to_grey_levels(tf.einsum("pw,...owc->...opc", columns, resized))


def _to_grey_levels(images: tf.Tensor) -> tf.Tensor:
    return tf.clip_by_value(tf.floor(images + 0.5), 0.0, 255.0)


@functools.lru_cache(maxsize=64)
def _weights(size: int, new_size: int) -> np.ndarray:
    """The matrix [new_size, size] that resizes one axis: cubic kernel, repeated borders."""
    scale = new_size / size
    width = 4.0 * max(1.0, 1.0 / scale)
    stretch = min(1.0, scale)  # antialiasing: the kernel grows with the shrinking
    centers = (np.arange(new_size) + 0.5) / scale - 0.5
    first = np.floor(centers - width / 2).astype(int)
    taps = first[:, None] + np.arange(math.ceil(width) + 2)
    values = _cubic(stretch * (centers[:, None] - taps))
    values /= values.sum(axis=1, keepdims=True)
    matrix = np.zeros((new_size, size))
    np.add.at(matrix, (np.arange(new_size)[:, None], taps.clip(0, size - 1)), values)
    return matrix.astype(np.float32)


def _cubic(x: np.ndarray) -> np.ndarray:
    """The cubic convolution kernel with a = -0.5 (Keys 1981)."""
    x = np.abs(x)
    near = 1.5 * x**3 - 2.5 * x**2 + 1.0
    far = -0.5 * x**3 + 2.5 * x**2 - 4.0 * x + 2.0
    return np.where(x <= 1, near, np.where(x <= 2, far, 0.0))
