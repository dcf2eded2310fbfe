"""PSNR and SSIM on the Y channel, as the super-resolution literature measures them."""

import numpy as np
import tensorflow as tf

_BT601 = np.array([65.481, 128.553, 24.966]) / 255.0


def luma(images) -> tf.Tensor:
    """Compute Y of BT.601 as MATLAB's `rgb2ycbcr` does, without rounding.

    Args:
        images: RGB [..., H, W, 3], values in [0, 255], any real dtype.

    Returns:
        float32 [..., H, W, 1] in [16, 235].
    """
    images = tf.cast(images, tf.float32)
    return tf.reduce_sum(images * _BT601.astype(np.float32), axis=-1, keepdims=True) + 16.0


def psnr_y(a, b, border: int) -> tf.Tensor:
    """Compute the peak signal-to-noise ratio on Y, in dB.

    Args:
        a, b: RGB [..., H, W, 3], values in [0, 255].
        border: pixels cut from each side first; the scale, by convention (4 at ×4).

    Returns:
        float32 [...]; infinite for equal images.
    """
    return tf.image.psnr(*(_inner(luma(x), border) for x in (a, b)), max_val=255.0)


def ssim_y(a, b, border: int) -> tf.Tensor:
    """Compute the structural similarity on Y (Wang et al. 2004: 11×11 Gaussian window, σ 1.5).

    Args:
        a, b: RGB [..., H, W, 3], values in [0, 255], sides of at least 11 + 2·border.
        border: pixels cut from each side first.

    Returns:
        float32 [...] in [-1, 1].

    Raises:
        ValueError: a side has fewer than 11 pixels within the border.
    """
    if any(side is not None and side - 2 * border < 11 for side in a.shape[-3:-1]):
        raise ValueError(f"SSIM needs sides of at least {11 + 2 * border} pixels, not {a.shape}")
    x, y = (tf.cast(_inner(luma(images), border), tf.float64) for images in (a, b))
    # In float64, as variances are small differences of large numbers: tf.image.ssim, in
    # float32, is off by 2e-4 on bright images.
    mean_x, mean_y, mean_xy, mean_squares = (_gaussian(i) for i in (x, y, x * y, x**2 + y**2))
    c1, c2 = (0.01 * 255.0) ** 2, (0.03 * 255.0) ** 2
    product, squares = mean_x * mean_y, mean_x**2 + mean_y**2
    luminance = (2.0 * product + c1) / (squares + c1)
    structure = (2.0 * (mean_xy - product) + c2) / (mean_squares - squares + c2)
    return tf.cast(tf.reduce_mean(luminance * structure, axis=(-3, -2, -1)), tf.float32)


def _gaussian(images: tf.Tensor) -> tf.Tensor:
    """Average over full 11×11 Gaussian windows: [..., H, W, 1] to [..., H-10, W-10, 1]."""
    window = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    window = tf.constant(window / window.sum(), images.dtype)
    shape = tf.shape(images)
    flat = tf.reshape(images, tf.concat([[-1], shape[-3:]], 0))
    rows = tf.nn.conv2d(flat, tf.reshape(window, [11, 1, 1, 1]), 1, "VALID")
    means = tf.nn.conv2d(rows, tf.reshape(window, [1, 11, 1, 1]), 1, "VALID")
    return tf.reshape(means, tf.concat([shape[:-3], tf.shape(means)[1:]], 0))


def _inner(images: tf.Tensor, border: int) -> tf.Tensor:
    if not border:
        return images
    return images[..., border:-border, border:-border, :]
