"""PSNR and SSIM on the Y channel, as the super-resolution literature measures them; in NumPy."""

from __future__ import annotations

import numpy as np

BT601 = np.array([65.481, 128.553, 24.966]) / 255.0
"""What R, G and B in [0, 255] add to Y, whose black is `BLACK`."""
BLACK = 16.0


def luma(images: np.ndarray, border: int = 0) -> np.ndarray:
    """Y of BT.601, as MATLAB's `rgb2ycbcr` has it, without rounding.

    Args:
        images: RGB [..., H, W, 3], values in [0, 255], any real dtype.
        border: pixels cut from each side.

    Returns:
        float64 [..., H - 2·border, W - 2·border] in [16, 235].
    """
    height, width = images.shape[-3:-1]
    inner = images[..., border : height - border, border : width - border, :]
    return inner @ BT601 + BLACK


def psnr_y(a: np.ndarray, b: np.ndarray, border: int) -> np.ndarray:
    """Peak signal-to-noise ratio on Y, in dB.

    Args:
        a, b: RGB [..., H, W, 3], values in [0, 255].
        border: pixels cut from each side first; the scale, by convention (4 at ×4).

    Returns:
        float64 [...]; infinite for equal images.
    """
    square = np.mean((luma(a, border) - luma(b, border)) ** 2, axis=(-2, -1))
    with np.errstate(divide="ignore"):
        return 10.0 * np.log10(255.0**2 / square)


def ssim_y(a: np.ndarray, b: np.ndarray, border: int) -> np.ndarray:
    """Structural similarity on Y (Wang et al. 2004: 11×11 Gaussian window, σ 1.5).

    Args:
        a, b: RGB [..., H, W, 3], values in [0, 255], at least 11 + 2·border a side.
        border: pixels cut from each side first.

    Returns:
        float64 [...] in [-1, 1].

    Raises:
        ValueError: a side has less than 11 pixels within the border.
    """
    if any(side - 2 * border < 11 for side in a.shape[-3:-1]):
        raise ValueError(f"SSIM needs sides of at least {11 + 2 * border} pixels, not {a.shape}")
    x, y = luma(a, border), luma(b, border)
    mean_x, mean_y, mean_xy, mean_squares = (_gaussian(i) for i in (x, y, x * y, x**2 + y**2))
    c1, c2 = (0.01 * 255.0) ** 2, (0.03 * 255.0) ** 2
    product, squares = mean_x * mean_y, mean_x**2 + mean_y**2
    luminance = (2.0 * product + c1) / (squares + c1)
    structure = (2.0 * (mean_xy - product) + c2) / (mean_squares - squares + c2)
    return np.mean(luminance * structure, axis=(-2, -1))


def _gaussian(images: np.ndarray) -> np.ndarray:
    """Means over whole 11×11 Gaussian windows: [..., H, W] to [..., H-10, W-10]."""
    window = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    window /= window.sum()
    for _ in range(2):
        length = images.shape[-1] - 10
        images = sum(w * images[..., i : i + length] for i, w in enumerate(window))
        images = images.swapaxes(-1, -2)
    return images
