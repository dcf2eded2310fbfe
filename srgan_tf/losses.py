"""Losses of the generator and the discriminator.

Images are float32 RGB [N, H, W, 3] in [-1, 1]; every loss is a float32 scalar, the mean
over the batch. Recipes name the losses of `PIXEL_LOSSES` and `VGG_LOSSES` with their weights; to
add one, write a function and add it there and to `srgan_tf.config.LossName`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from srgan_tf import keras_settings  # noqa: F401
from srgan_tf.errors import UserError
from srgan_tf.ranges import denormalize

FEATURE_SCALE = 1 / 12.75
"""Factor of VGG feature maps, which brings the VGG losses to the scale of the MSE (section 3.2)."""

# VGG(i,j) of the paper: the j-th convolution before the i-th max-pooling.
VGG22, VGG54 = "block2_conv2", "block5_conv4"
_VGG_REMEDY = (
    "Keras downloads them if there is a network; otherwise give the path of "
    "vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5 as --set vgg.weights=PATH (srgan evaluate: "
    "--vgg PATH)"
)

Pair = tuple[tf.Tensor, tf.Tensor]
Features = dict[str, tf.Tensor]

PERCEPTUAL_LAYERS = {
    "block1_conv2": (0.1, 138.0),
    "block2_conv2": (0.1, 315.0),
    "block3_conv4": (1.0, 817.0),
    "block4_conv4": (1.0, 719.0),
    "block5_conv4": (1.0, 50.5),
}
"""For each layer of the perceptual loss, Real-ESRGAN's weight and the mean magnitude of the layer's
features on the centres of 200 training photos, by which features are divided."""


class ContentLosses:
    """The content losses of a recipe; those on VGG19's features share one pass per image.

    Calling it with HR and SR returns a dictionary of the losses by name.

    Args:
        names: keys of `PIXEL_LOSSES` or `VGG_LOSSES`.
        scale: ratio of HR's side to LR's.
        vgg_weights: `imagenet` or the path of VGG19's weights without its top.
        precision: the recipe's; see `VggFeatures`.

    Raises:
        UserError: VGG19's weights are not available.
    """

    def __init__(
        self,
        names: Iterable[str],
        scale: int,
        vgg_weights: str = "imagenet",
        precision: str = "float32",
    ):
        self.names, self.scale = list(names), scale
        vgg_losses = [VGG_LOSSES[name] for name in self.names if name in VGG_LOSSES]
        layers = {layer for loss in vgg_losses for layer in loss.layers}
        self._vgg_features = VggFeatures(layers, vgg_weights, precision) if layers else None

    def __call__(
        self, hr: tf.Tensor, sr: tf.Tensor, vgg_pair: Pair | None = None
    ) -> dict[str, tf.Tensor]:
        """Compute the losses between HR and SR.

        Args:
            hr, sr: float32 [N, H, W, 3] in [-1, 1].
            vgg_pair: HR and SR for the VGG losses, if these differ from the others'.
        """
        losses = {}
        if self._vgg_features:
            features = [self._vgg_features(images) for images in vgg_pair or (hr, sr)]
        for name in self.names:
            if name in VGG_LOSSES:
                losses[name] = VGG_LOSSES[name].function(*features)
            else:
                losses[name] = PIXEL_LOSSES[name](hr, sr, self.scale)
        return losses


def mse_loss(hr: tf.Tensor, sr: tf.Tensor, scale: int = 4) -> tf.Tensor:
    """Compute the mean squared difference of the pixels (equation 4)."""
    return tf.reduce_mean(tf.square(hr - sr))


def l1_loss(hr: tf.Tensor, sr: tf.Tensor, scale: int = 4) -> tf.Tensor:
    """Compute the mean absolute difference of the pixels."""
    return tf.reduce_mean(tf.abs(hr - sr))


def psnr_loss(hr: tf.Tensor, sr: tf.Tensor, scale: int = 4) -> tf.Tensor:
    """Compute the mean of the images' negative PSNR, in dB.

    All images count equally, whereas the MSE of a batch is dominated by its hardest texture. The
    square of one grey level is added to each image's MSE, which bounds the loss of flat images.
    """
    mse = tf.reduce_mean(tf.square(hr - sr), [1, 2, 3])
    return tf.reduce_mean(tf.math.log((mse + (2 / 255) ** 2) / 4)) * (10 / math.log(10))


def lowres_mse_loss(hr: tf.Tensor, sr: tf.Tensor, scale: int) -> tf.Tensor:
    """Compute the mean squared difference of the means of `scale`×`scale` blocks of pixels.

    It preserves the colours and the contrast that LR has and leaves finer detail free; the VGG
    losses alone favour SR of lower contrast than HR.
    """
    return tf.reduce_mean(tf.square(tf.nn.avg_pool2d(hr - sr, scale, scale, "VALID")))


def log_spectrum_mse_loss(hr: tf.Tensor, sr: tf.Tensor, scale: int) -> tf.Tensor:
    """Compute the mean squared difference of log power at each frequency of Y, U and V.

    Power is an image's mean over windows of 32×32 pixels, plus white noise of one grey level
    (after Durall et al. 2020, who compare azimuthally averaged spectra).
    """
    sr_power, hr_power = _power(_spectra(sr, scale)), _power(_spectra(hr, scale))
    return tf.reduce_mean(tf.square(tf.math.log(sr_power) - tf.math.log(hr_power)))


def coherence_loss(hr: tf.Tensor, sr: tf.Tensor, scale: int) -> tf.Tensor:
    """Compute the mean squared coherence of SR's frequencies that differ by multiples of 1/`scale`.

    A pattern at fixed positions of `scale`×`scale` blocks correlates such frequencies, whatever its
    sign and strength in each block: the spectral coherence of a cyclostationary process (Gardner
    1986). Texture at arbitrary positions has none. It is averaged over Y, U and V, the windows of
    `log_spectrum_mse_loss` and the images: 1 for full coherence, 0 on average without any,
    whatever the number of windows, and 0 for a single one. As images are averaged before squaring,
    the mean over the parts of a batch is not that of the batch.
    """
    spectra = _spectra(sr, scale)
    spectra /= tf.complex(tf.sqrt(_power(spectra))[:, None, None], 0.0)
    step = spectra.shape[-1] // scale
    losses, seen = [], set()
    for shift in np.ndindex(scale, scale):
        opposite = tuple(-i % scale for i in shift)  # has the conjugate coherence
        if shift == (0, 0) or opposite in seen:
            continue
        seen.add(shift)
        apart = tf.roll(spectra, [shift[0] * step, shift[1] * step], [-2, -1])
        coherence = tf.reduce_mean(spectra * tf.math.conj(apart), [0, 1, 2])
        losses += [tf.reduce_mean(_squared(coherence))] * (1 if shift == opposite else 2)
    # Without coherence the squared mean of n independent windows is 1/n. Hann windows that overlap
    # by half correlate by 1/6 (Welch 1967): n of them count as n/(1 + 2/36) per axis.
    independent = [
        windows / (1 + (windows > 1) / 18) for windows in (spectra.shape[1], spectra.shape[2])
    ]
    count = tf.cast(tf.shape(spectra)[0], tf.float32) * float(np.prod(independent))
    # A single window has no coherence to measure.
    return tf.math.divide_no_nan(count * tf.reduce_mean(losses) - 1.0, count - 1.0)


def grid_mse_loss(hr: tf.Tensor, sr: tf.Tensor, scale: int) -> tf.Tensor:
    """Compute the mean squared difference of the mean `scale`×`scale` block, less its mean colour.

    A pattern that all blocks of an image have is a line spectrum; `coherence_loss`, which averages
    over frequencies, barely penalises it.
    """
    height, width = hr.shape[1] // scale, hr.shape[2] // scale
    difference = (sr - hr)[:, : height * scale, : width * scale]
    blocks = tf.reshape(difference, [-1, height, scale, width, scale, 3])
    block = tf.reduce_mean(blocks, [1, 3])
    return tf.reduce_mean(tf.square(block - tf.reduce_mean(block, [1, 2], keepdims=True)))


def _spectra(images: tf.Tensor, scale: int) -> tf.Tensor:
    """Compute the spectra of half-overlapping Hann windows, aligned to blocks, of Y, U and V.

    Returns:
        complex64 [N, rows, columns, 3, side, side].
    """
    side = min(32, *images.shape[1:3]) // (2 * scale) * 2 * scale
    window = tf.signal.hann_window(side)
    frames = tf.image.rgb_to_yuv(images)
    for axis in (1, 3):
        frames = tf.signal.frame(frames, side, side // 2, axis=axis)
    frames = window[:, None] * window * tf.transpose(frames, [0, 1, 3, 5, 2, 4])
    return tf.signal.fft2d(tf.complex(frames, 0.0))


def _power(spectra: tf.Tensor) -> tf.Tensor:
    """Compute mean power over windows, plus white noise of one grey level: [N, 3, side, side]."""
    mean_squared_window = 3 / 8
    grey_level = (mean_squared_window * spectra.shape[-1] * 2 / 255) ** 2
    return tf.reduce_mean(_squared(spectra), [1, 2]) + grey_level


def _squared(values: tf.Tensor) -> tf.Tensor:
    return tf.square(tf.math.real(values)) + tf.square(tf.math.imag(values))


class VggFeatures:
    """VGG19's features of images in [-1, 1], before the activation.

    Calling it with float [N, H, W, 3] gives a dict of float32 [N, h, w, channels].

    Args:
        layers: of Keras' VGG19, such as `block5_conv4`.
        weights: `imagenet` or the path of VGG19's weights without its top.
        precision: `mixed_bfloat16` computes all layers but the first in bfloat16; the gradients
            of VGG losses then have a cosine similarity of 0.997 to float32's, on average. Others
            compute in float32, as features can exceed float16.
    """

    def __init__(
        self, layers: Iterable[str], weights: str = "imagenet", precision: str = "float32"
    ):
        vgg = _vgg19(weights)
        wanted = set(layers)
        # Keras' VGG19 has activations inside the convolutions: rebuild it with separate ones.
        x, outputs = vgg.input, {}
        dtype = "mixed_bfloat16" if precision == "mixed_bfloat16" else "float32"
        for layer in vgg.layers[1:]:
            if isinstance(layer, keras.layers.Conv2D):
                layer.activation = keras.activations.linear
            # Pixels of 0 to 255 have no place in bfloat16's 8 bits.
            layer.dtype_policy = "float32" if x is vgg.input else dtype
            x = layer(x)
            if layer.name in wanted:
                outputs[layer.name] = x
                if outputs.keys() == wanted:
                    break
            if isinstance(layer, keras.layers.Conv2D):
                x = keras.layers.ReLU(dtype=dtype)(x)
        self.model = keras.Model(vgg.input, outputs)
        self.model.trainable = False

    def __call__(self, images: tf.Tensor) -> Features:
        bgr_minus_mean = keras.applications.vgg19.preprocess_input(denormalize(images))
        features = self.model(bgr_minus_mean, training=False)
        return {layer: tf.cast(maps, tf.float32) for layer, maps in features.items()}


def check_vgg_weights(weights: str) -> None:
    """Raise UserError if VGG19's weights are neither `imagenet` nor an existing file."""
    if weights != "imagenet" and not Path(weights).is_file():
        raise UserError(f"vgg.weights: {weights}: no such file; {_VGG_REMEDY}")


def _vgg19(weights: str) -> keras.Model:
    check_vgg_weights(weights)
    before = keras.config.dtype_policy()
    # keras.applications has no dtype argument.
    keras.config.set_dtype_policy("float32")
    try:
        return keras.applications.VGG19(include_top=False, weights=weights)
    except Exception as error:
        raise UserError(
            f"vgg.weights: {weights}: no VGG19 weights ({error}); {_VGG_REMEDY}"
        ) from error
    finally:
        keras.config.set_dtype_policy(before)


def paper_features(features: Features, layer: str) -> tf.Tensor:
    """Return scaled features after the activation, which the paper's VGG losses compare."""
    return FEATURE_SCALE * tf.nn.relu(features[layer])


def _vgg_loss(hr: Features, sr: Features, layer: str) -> tf.Tensor:
    return tf.reduce_mean(tf.square(paper_features(hr, layer) - paper_features(sr, layer)))


def perceptual_loss(hr: Features, sr: Features) -> tf.Tensor:
    """Compute the mean absolute difference of features at five depths (Wang et al. 2021).

    Features are taken before the activation, as ESRGAN does (Wang et al. 2018, section 3.3), and
    divided by their mean magnitude on photos: `PERCEPTUAL_LAYERS`.
    """
    return tf.add_n(
        [
            weight / magnitude * tf.reduce_mean(tf.abs(hr[layer] - sr[layer]))
            for layer, (weight, magnitude) in PERCEPTUAL_LAYERS.items()
        ]
    )


def adversarial_loss(sr_logits: tf.Tensor) -> tf.Tensor:
    """Compute -log D(G(LR)), averaged (equation 6)."""
    return tf.reduce_mean(tf.nn.softplus(-sr_logits))


def discriminator_loss(hr_logits: tf.Tensor, sr_logits: tf.Tensor) -> tf.Tensor:
    """Compute -log D(HR) - log(1 - D(G(LR))), averaged (equation 2)."""
    return tf.reduce_mean(tf.nn.softplus(-hr_logits)) + tf.reduce_mean(tf.nn.softplus(sr_logits))


PIXEL_LOSSES: dict[str, Callable[..., tf.Tensor]] = {
    "mse": mse_loss,
    "l1": l1_loss,
    "psnr": psnr_loss,
    "lowres_mse": lowres_mse_loss,
    "log_spectrum_mse": log_spectrum_mse_loss,
    "coherence": coherence_loss,
    "grid_mse": grid_mse_loss,
}
"""Losses on pixels by name: functions of (hr, sr, scale)."""


class VggLoss(NamedTuple):
    """A loss on VGG19's features: the layers it needs, and the function of HR's and SR's."""

    layers: tuple[str, ...]
    function: Callable[[Features, Features], tf.Tensor]


VGG_LOSSES = {
    "vgg22": VggLoss((VGG22,), functools.partial(_vgg_loss, layer=VGG22)),
    "vgg54": VggLoss((VGG54,), functools.partial(_vgg_loss, layer=VGG54)),
    "perceptual": VggLoss(tuple(PERCEPTUAL_LAYERS), perceptual_loss),
}
