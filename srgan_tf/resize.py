"""Resizing of images, as MATLAB's `imresize` does it and by other kernels, in NumPy and Pillow."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np
from PIL import Image

# Rows of the result per band times the photo's width, which bounds the memory for floats.
_BAND = 2**22


def cubic(x: np.ndarray) -> np.ndarray:
    """Evaluate the cubic convolution kernel with a = -0.5 (Keys 1981)."""
    x = np.abs(x)
    near = 1.5 * x**3 - 2.5 * x**2 + 1.0
    far = -0.5 * x**3 + 2.5 * x**2 - 4.0 * x + 2.0
    return np.where(x <= 1, near, np.where(x <= 2, far, 0.0))


def _triangle(x: np.ndarray) -> np.ndarray:
    return np.maximum(1.0 - np.abs(x), 0.0)


def _box(x: np.ndarray) -> np.ndarray:
    return ((x >= -0.5) & (x < 0.5)).astype(float)


def _lanczos(x: np.ndarray) -> np.ndarray:
    return np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0.0)


_KERNELS: dict[str, tuple[Callable[[np.ndarray], np.ndarray], float]] = {
    "bicubic": (cubic, 2.0),
    "bilinear": (_triangle, 1.0),
    "box": (_box, 0.5),
    "lanczos": (_lanczos, 3.0),
}
"""Kernels as functions of distances, and the radii of their support, in pixels."""


def resize_matrix(size: int, new_size: int, kernel: str = "bicubic") -> np.ndarray:
    """Return the antialiased resizing of one axis as a dense matrix.

    When shrinking, the kernel is widened by the same factor. Pixels at the border are repeated.

    Args:
        size: length of the axis, in pixels.
        new_size: length of the resized axis.
        kernel: `bicubic` (a = -0.5), `bilinear`, `box` or `lanczos` (3 lobes).

    Returns:
        float32 [new_size, size]; each row sums to 1.
    """
    function, radius = _KERNELS[kernel]
    scale = new_size / size
    width = 2.0 * radius * max(1.0, 1.0 / scale)
    stretch = min(1.0, scale)
    centers = (np.arange(new_size) + 0.5) / scale - 0.5
    first = np.floor(centers - width / 2).astype(int)
    taps = first[:, None] + np.arange(math.ceil(width) + 2)
    weights = function(stretch * (centers[:, None] - taps))
    weights /= weights.sum(axis=1, keepdims=True)
    matrix = np.zeros((new_size, size))
    np.add.at(matrix, (np.arange(new_size)[:, None], taps.clip(0, size - 1)), weights)
    return matrix.astype(np.float32)


@functools.lru_cache(maxsize=16)
def bicubic_matrix(size: int, new_size: int) -> np.ndarray:
    """Return MATLAB's bicubic resizing of one axis, float32 [new_size, size], cached."""
    return resize_matrix(size, new_size)


def bicubic_downscale(images, scale: int) -> np.ndarray:
    """Downscale HR images as MATLAB's `imresize(images, 1/scale)` does uint8 images.

    Args:
        images: uint8, or integers as floats, in [0, 255], [..., H, W, C]; H and W are
            multiples of `scale`.
        scale: an integer of at least 1.

    Returns:
        uint8 [..., H/scale, W/scale, C].

    Raises:
        ValueError: H or W is not a multiple of `scale`.
    """
    height, width = images.shape[-3:-1]
    if height % scale or width % scale:
        raise ValueError(f"{height}×{width} is not a multiple of the scale {scale}")
    return _imresize(images, height // scale, width // scale)


def bicubic_upscale(images, scale: int) -> np.ndarray:
    """Enlarge images as MATLAB's `imresize(images, scale)` does uint8 images.

    Args:
        images: uint8, or integers as floats, in [0, 255], [..., H, W, C].
        scale: an integer of at least 1.

    Returns:
        uint8 [..., scale·H, scale·W, C].
    """
    return _imresize(images, scale * images.shape[-3], scale * images.shape[-2])


def nearest_upscale(images: np.ndarray, scale: int) -> np.ndarray:
    """Enlarge images of any dtype, [..., H, W, C] to [..., scale·H, scale·W, C], by repetition."""
    return images.repeat(scale, axis=-3).repeat(scale, axis=-2)


def _imresize(images, height: int, width: int) -> np.ndarray:
    """Resize rows, then columns, rounding to grey levels after each as MATLAB does.

    This reproduces the published LR images of Set5, Set14 and BSD100.
    """
    for new_size in (height, width):
        *batch, size, other, channels = images.shape
        columns = np.asarray(images, np.float32).reshape(*batch, size, other * channels)
        resized = round_to_uint8(bicubic_matrix(size, new_size) @ columns)
        images = resized.reshape(*batch, new_size, other, channels).swapaxes(-3, -2)
    return np.ascontiguousarray(images)


def downscale(pixels: np.ndarray, out: np.ndarray) -> None:
    """Downscale an image to any size by Pillow's antialiased bicubic.

    Equals MATLAB's `imresize` of float pixels except near the border, where kernels are truncated.

    Args:
        pixels: uint8 or uint16 [H, W] or [H, W, C].
        out: for the result, the same dtype, [height, width] or [height, width, C].
    """
    height, width = out.shape[:2]
    highest = np.iinfo(pixels.dtype).max
    channels = pixels.reshape(*pixels.shape[:2], -1)
    result = out.reshape(height, width, -1)
    step = len(channels) / height
    margin = 3 * math.ceil(max(1.0, step))  # more than a kernel's radius
    # In bands of rows, as Pillow resizes floats, which take four times as much memory.
    rows = max(1, _BAND // channels.shape[1])
    for start in range(0, height, rows):
        stop = min(start + rows, height)
        first = max(0, math.floor(start * step) - margin)
        band = channels[first : math.ceil(stop * step) + margin]
        box = (0, start * step - first, channels.shape[1], stop * step - first)
        for index in range(channels.shape[2]):
            image = Image.fromarray(band[..., index].astype(np.float32))
            resized = image.resize((width, stop - start), Image.Resampling.BICUBIC, box)
            result[start:stop, :, index] = np.rint(np.clip(np.asarray(resized), 0, highest))


def round_to_uint8(pixels: np.ndarray) -> np.ndarray:
    """Round float pixels in [0, 255] to uint8, halves upwards as MATLAB does."""
    return (pixels + 0.5).clip(0, 255).astype(np.uint8)
