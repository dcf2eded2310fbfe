"""Content losses and the adversarial loss (Ledig et al. 2017, section 2.2).

Images are float32 RGB [N, H, W, 3] in [-1, 1]; every loss is a float32 scalar, the mean
over the batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from srgan_tf import keras_settings  # noqa: F401
from srgan_tf.errors import RequestError

FEATURE_SCALE = 1 / 12.75
"""Of VGG feature maps: brings the VGG losses to the scale of the MSE (section 3.2)."""

# VGG(i,j): after the activation of the j-th convolution before the i-th max-pooling.
_VGG_LAYERS = {"vgg22": "block2_conv2", "vgg54": "block5_conv4"}

ContentLoss = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


def content_loss(name: str, vgg_weights: str = "imagenet", precision="float32") -> ContentLoss:
    """A content loss by name: a function of (hr, sr).

    Args:
        name: `mse` (equation 4), `l1`, `psnr`, `vgg22` or `vgg54` (equation 5).
        vgg_weights: `imagenet` or the path of VGG19's weights without its top.
        precision: the dtype policy that VGG19 computes in.

    Raises:
        RequestError: VGG19's weights can't be had.
    """
    if name == "mse":
        return mse_loss
    if name == "l1":
        return l1_loss
    if name == "psnr":
        return psnr_loss
    features = VggFeatures(name, vgg_weights, precision)
    return lambda hr, sr: tf.reduce_mean(tf.square(features(hr) - features(sr)))


def mse_loss(hr: tf.Tensor, sr: tf.Tensor) -> tf.Tensor:
    """The mean squared difference of the pixels (equation 4)."""
    return tf.reduce_mean(tf.square(hr - sr))


def l1_loss(hr: tf.Tensor, sr: tf.Tensor) -> tf.Tensor:
    """The mean absolute difference of the pixels."""
    return tf.reduce_mean(tf.abs(hr - sr))


def psnr_loss(hr: tf.Tensor, sr: tf.Tensor) -> tf.Tensor:
    """The mean of the images' negative PSNR, in dB.

    An image counts as much as another, whether its detail can be guessed or not, where the MSE of a
    batch is that of its hardest texture. An error of a grey level is added to each image's, so that
    a flat one does not count without end.
    """
    mse = tf.reduce_mean(tf.square(hr - sr), [1, 2, 3])
    return tf.reduce_mean(tf.math.log((mse + (2 / 255) ** 2) / 4)) * (10 / math.log(10))


def consistency_loss(hr: tf.Tensor, sr: tf.Tensor, scale: int) -> tf.Tensor:
    """The mean squared difference of the means of `scale`×`scale` blocks of pixels.

    It holds colours and contrast where LR shows them and leaves detail free. The VGG losses
    are lower for an uncertain SR when it is fainter than HR.
    """
    return tf.reduce_mean(tf.square(tf.nn.avg_pool2d(hr - sr, scale, scale, "VALID")))


def grid_loss(hr: tf.Tensor, sr: tf.Tensor, scale: int) -> tf.Tensor:
    """The mean squared difference at each place within `scale`×`scale` blocks, over 8×8 blocks.

    A grid with the period of LR's pixels is the cheapest texture that a pixel shuffle draws, and
    the VGG losses prefer it to none. Texture that is not tied to the blocks averages out.
    """
    phases = tf.nn.space_to_depth(hr - sr, scale)
    return tf.reduce_mean(tf.square(tf.nn.avg_pool2d(phases, 8, 8, "SAME")))


def spectrum_loss(hr: tf.Tensor, sr: tf.Tensor, scale: int) -> tf.Tensor:
    """The mean squared difference of log power at each frequency of Y, U and V.

    Power is an image's mean over its windows of 32×32 pixels, and a grey level of white noise
    more (after Durall et al. 2020, who compare spectra around the origin).
    """
    sr_power, hr_power = _power(_spectra(sr, scale)), _power(_spectra(hr, scale))
    return tf.reduce_mean(tf.square(tf.math.log(sr_power) - tf.math.log(hr_power)))


def coherence_loss(sr: tf.Tensor, scale: int) -> tf.Tensor:
    """The mean squared coherence of frequencies that lie multiples of 1/`scale` apart.

    What is drawn at the same places of `scale`×`scale` blocks ties such frequencies together,
    whatever its sign and strength in each block: the spectral coherence of a cyclostationary
    process (Gardner 1986). Texture that lies anywhere has none. Of Y, U and V, a mean over the
    windows of `spectrum_loss` and the images; from 0 to 1.
    """
    spectra = _spectra(sr, scale)
    spectra /= tf.complex(tf.sqrt(_power(spectra))[:, None, None], 0.0)
    step = spectra.shape[-1] // scale
    losses = []
    for rows, columns in np.ndindex(scale, scale):
        if rows or columns:
            apart = tf.roll(spectra, [rows * step, columns * step], [-2, -1])
            coherence = tf.reduce_mean(spectra * tf.math.conj(apart), [0, 1, 2])
            losses.append(tf.reduce_mean(_squared(coherence)))
    return tf.reduce_mean(losses)


def _spectra(images: tf.Tensor, scale: int) -> tf.Tensor:
    """Of Hann windows on Y, U and V, which overlap by half and start where a block starts:
    complex64 [N, rows, columns, 3, side, side]."""
    side = min(32, *images.shape[1:3]) // (2 * scale) * 2 * scale
    window = tf.signal.hann_window(side)
    frames = tf.image.rgb_to_yuv(images)
    for axis in (1, 3):
        frames = tf.signal.frame(frames, side, side // 2, axis=axis)
    frames = window[:, None] * window * tf.transpose(frames, [0, 1, 3, 5, 2, 4])
    return tf.signal.fft2d(tf.cast(frames, tf.complex64))


def _power(spectra: tf.Tensor) -> tf.Tensor:
    """The mean over windows, and a grey level of white noise: [N, 3, side, side]."""
    mean_squared_window = 3 / 8
    grey_level = (mean_squared_window * spectra.shape[-1] * 2 / 255) ** 2
    return tf.reduce_mean(_squared(spectra), [1, 2]) + grey_level


def _squared(values: tf.Tensor) -> tf.Tensor:
    return tf.square(tf.math.real(values)) + tf.square(tf.math.imag(values))


class VggFeatures:
    """Scaled VGG19 feature maps of images in [-1, 1].

    Calling it with float [N, H, W, 3] gives float32 [N, H/2, W/2, 128] for `vgg22` and
    [N, H/16, W/16, 512] for `vgg54`.
    """

    def __init__(self, name: str, weights: str = "imagenet", precision: str = "float32"):
        vgg = _vgg19(weights, precision)
        self.model = keras.Model(vgg.input, vgg.get_layer(_VGG_LAYERS[name]).output)
        self.model.trainable = False

    def __call__(self, images: tf.Tensor) -> tf.Tensor:
        bgr_minus_mean = keras.applications.vgg19.preprocess_input((images + 1.0) * 127.5)
        features = self.model(bgr_minus_mean, training=False)
        return FEATURE_SCALE * tf.cast(features, tf.float32)


def _vgg19(weights: str, precision: str) -> keras.Model:
    ways = (
        "with a network Keras downloads them by itself; without one, put "
        "vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5 on disk and give its path as "
        "--set vgg.weights=PATH"
    )
    if weights != "imagenet" and not Path(weights).is_file():
        raise RequestError(f"vgg.weights: {weights}: no such file; {ways}")
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)  # keras.applications has no dtype argument
    try:
        return keras.applications.VGG19(include_top=False, weights=weights)
    except Exception as error:
        raise RequestError(f"vgg.weights: {weights}: no VGG19 weights ({error}); {ways}") from error
    finally:
        keras.config.set_dtype_policy(before)


def adversarial_loss(sr_logits: tf.Tensor) -> tf.Tensor:
    """-log D(G(LR)), averaged (equation 6)."""
    return tf.reduce_mean(tf.nn.softplus(-sr_logits))


def discriminator_loss(hr_logits: tf.Tensor, sr_logits: tf.Tensor) -> tf.Tensor:
    """-log D(HR) - log(1 - D(G(LR))), averaged (equation 2)."""
    return tf.reduce_mean(tf.nn.softplus(-hr_logits)) + tf.reduce_mean(tf.nn.softplus(sr_logits))
