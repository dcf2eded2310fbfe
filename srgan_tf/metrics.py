"""PSNR and SSIM on the Y channel, as the super-resolution literature measures them."""

import numpy as np
from skimage.metrics import structural_similarity

BT601 = np.array([65.481, 128.553, 24.966]) / 255.0
"""Weights of R, G and B in Y of BT.601, to which 16 is added."""

_ssim = np.vectorize(
    lambda a, b: structural_similarity(
        a, b, gaussian_weights=True, use_sample_covariance=False, data_range=255.0
    ),
    signature="(h,w),(h,w)->()",
)


def luma(images) -> np.ndarray:
    """Compute Y of BT.601 as MATLAB's `rgb2ycbcr` does, without rounding.

    Args:
        images: RGB [..., H, W, 3], values in [0, 255], any real dtype.

    Returns:
        float64 [..., H, W] in [16, 235].
    """
    return np.asarray(images, np.float64) @ BT601 + 16.0


def psnr_y(a, b, border: int) -> np.ndarray:
    """Compute the peak signal-to-noise ratio on Y, in dB.

    Args:
        a, b: RGB [..., H, W, 3], values in [0, 255].
        border: pixels cut from each side first; the scale, by convention (4 at ×4).

    Returns:
        float64 [...]; infinite for equal images.
    """
    mse = np.mean(np.square(_inner(a, border) - _inner(b, border)), axis=(-2, -1))
    with np.errstate(divide="ignore"):
        return 10.0 * np.log10(255.0**2 / mse)


def ssim_y(a, b, border: int) -> np.ndarray:
    """Compute the structural similarity on Y (Wang et al. 2004: 11×11 Gaussian window, σ 1.5).

    Args:
        a, b: RGB [..., H, W, 3], values in [0, 255], sides of at least 11 + 2·border.
        border: pixels cut from each side first.

    Returns:
        float64 [...] in [-1, 1].

    Raises:
        ValueError: a side has fewer than 11 pixels within the border.
    """
    x, y = _inner(a, border), _inner(b, border)
    if min(x.shape[-2:]) < 11:
        raise ValueError(f"SSIM needs sides of at least {11 + 2 * border} pixels, not {a.shape}")
    return _ssim(x, y)


def _inner(images, border: int) -> np.ndarray:
    y = luma(images)
    return y[..., border : y.shape[-2] - border, border : y.shape[-1] - border]
