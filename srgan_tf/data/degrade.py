"""HR to LR: bicubic resizing that equals MATLAB's `imresize`.

Resizing along one axis is a matrix product, so an image is resized by two of them,
in the graph or out of it. As MATLAB does for uint8 images, rows come first, each pass
rounds to whole grey levels, and the pixels at the border are repeated outwards: this
reproduces the published LR images of Set5, Set14 and BSD100 bit for bit.
"""

import functools

import numpy as np
import tensorflow as tf

from srgan_tf.resize import cubic, resize_matrix


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


def bicubic_interpolate(images: tf.Tensor, scale: int) -> tf.Tensor:
    """As `bicubic_upscale`, without rounding, for any range and for sizes known only in the graph.

    Args:
        images: float [N, H, W, C].
        scale: an integer of at least 1.

    Returns:
        [N, scale·H, scale·W, C] of the same dtype.
    """
    # The new pixels of phase p lie (p + 0.5)/scale - 0.5 from an old one: within its 5 taps.
    offsets = (np.arange(scale) + 0.5) / scale - 0.5
    phases = cubic(offsets - np.arange(-2, 3)[:, None])  # [5, scale]
    kernel = np.einsum("yp,xq->yxpq", phases, phases).reshape(5, 5, 1, scale**2)
    for _ in range(2):  # a symmetric pixel, twice: the border is repeated outwards
        images = tf.pad(images, [[0, 0], [1, 1], [1, 1], [0, 0]], "SYMMETRIC")
    planes = [
        tf.nn.depth_to_space(
            tf.nn.conv2d(plane, tf.constant(kernel, images.dtype), 1, "VALID"), scale
        )
        for plane in tf.split(images, images.shape[-1], axis=-1)
    ]
    return tf.concat(planes, axis=-1)


def _resize(images, height: int, width: int) -> tf.Tensor:
    images = tf.cast(images, tf.float32)
    rows = tf.constant(_dense_matrix(images.shape[-3], height))
    columns = tf.constant(_dense_matrix(images.shape[-2], width))
    resized = _to_grey_levels(tf.einsum("oh,...hwc->...owc", rows, images))
    return _to_grey_levels(tf.einsum("pw,...owc->...opc", columns, resized))


def _to_grey_levels(images: tf.Tensor) -> tf.Tensor:
    return tf.clip_by_value(tf.floor(images + 0.5), 0.0, 255.0)


@functools.lru_cache(maxsize=64)
def _dense_matrix(size: int, new_size: int) -> np.ndarray:
    return resize_matrix(size, new_size).toarray()
