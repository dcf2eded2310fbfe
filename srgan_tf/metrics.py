"""PSNR and SSIM on the Y channel, as the super-resolution literature measures them."""

from __future__ import annotations

import functools
from collections.abc import Iterable

import numpy as np

BT601 = np.array([65.481, 128.553, 24.966]) / 255.0
"""Weights of R, G and B in Y of BT.601, to which `BLACK` is added."""
BLACK = 16.0
_MOST_DB = 100.0


def luma(images: np.ndarray, border: int = 0) -> np.ndarray:
    """Compute Y of BT.601 as MATLAB's `rgb2ycbcr` does, without rounding.

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
    """Compute the peak signal-to-noise ratio on Y, in dB.

    Args:
        a, b: RGB [..., H, W, 3], values in [0, 255].
        border: pixels cut from each side first; the scale, by convention (4 at ×4).

    Returns:
        float64 [...]; infinite for equal images.
    """
    mse = np.mean((luma(a, border) - luma(b, border)) ** 2, axis=(-2, -1))
    with np.errstate(divide="ignore"):
        return 10.0 * np.log10(255.0**2 / mse)


def mean_psnr(values: Iterable[np.ndarray | float]) -> float:
    """Return the mean of PSNR in dB, each value at most 100: equal images have an infinite one."""
    return float(np.mean([np.minimum(value, _MOST_DB) for value in values]))


def ssim_y(a: np.ndarray, b: np.ndarray, border: int) -> np.ndarray:
    """Compute the structural similarity on Y (Wang et al. 2004: 11×11 Gaussian window, σ 1.5).

    Args:
        a, b: RGB [..., H, W, 3], values in [0, 255], sides of at least 11 + 2·border.
        border: pixels cut from each side first.

    Returns:
        float64 [...] in [-1, 1].

    Raises:
        ValueError: a side has fewer than 11 pixels within the border.
    """
    # Machines that train without TensorFlow measure PSNR without scikit-image.
    from skimage.metrics import structural_similarity

    x, y = luma(a, border), luma(b, border)
    if min(x.shape[-2:]) < 11:
        raise ValueError(f"SSIM needs sides of at least {11 + 2 * border} pixels, not {a.shape}")
    ssim = functools.partial(
        structural_similarity, gaussian_weights=True, use_sample_covariance=False, data_range=255.0
    )
    return np.vectorize(ssim, signature="(h,w),(h,w)->()")(x, y)
