"""PSNR and SSIM on the Y channel, as the super-resolution literature measures them."""

import numpy as np
import tensorflow as tf

_BT601 = np.array([65.481, 128.553, 24.966]) / 255.0


def luma(images) -> tf.Tensor:
    """Y of BT.601, as MATLAB's `rgb2ycbcr` has it, without rounding.

    Args:
        images: RGB [..., H, W, 3], values in [0, 255], any real dtype.

    Returns:
        float32 [..., H, W, 1] in [16, 235].
    """
    images = tf.cast(images, tf.float32)
    return tf.reduce_sum(images * _BT601.astype(np.float32), axis=-1, keepdims=True) + 16.0


def psnr_y(a, b, border: int) -> tf.Tensor:
    """Peak signal-to-noise ratio on Y, in dB.

    Args:
        a, b: RGB [..., H, W, 3], values in [0, 255].
        border: pixels cut from each side first; the scale, by convention (4 at ×4).

    Returns:
        float32 [...]; infinite for equal images.
    """
    return tf.image.psnr(*(_inner(luma(x), border) for x in (a, b)), max_val=255.0)


def ssim_y(a, b, border: int) -> tf.Tensor:
    """Structural similarity on Y (Wang et al. 2004: 11×11 Gaussian window, σ 1.5).

    Args:
        a, b: RGB [..., H, W, 3], values in [0, 255], at least 11 + 2·border a side.
        border: pixels cut from each side first.

    Returns:
        float32 [...] in [-1, 1].
    """
    return tf.image.ssim(*(_inner(luma(x), border) for x in (a, b)), max_val=255.0)


def _inner(images: tf.Tensor, border: int) -> tf.Tensor:
    if not border:
        return images
    return images[..., border:-border, border:-border, :]
