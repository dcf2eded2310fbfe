"""The paper's baseline networks: SRCNN, ESPCN and DRCN.

As in their papers, the networks enlarge luma; chroma is enlarged by bicubic interpolation. Their
interface is SRResNet's. New models compute bicubic upscaling; a new ESPCN or SRResNet, bilinear.
"""

from __future__ import annotations

import math

import keras
import numpy as np
import tensorflow as tf

from srgan_tf.metrics import BLACK, BT601
from srgan_tf.models.generator import Generator
from srgan_tf.resize import cubic

# Change of R, G and B per change of Y, with constant Cb and Cr.
_RGB_PER_LUMA = 255.0 / 219.0


def unit_luma(images: tf.Tensor) -> tf.Tensor:
    """Convert RGB [N, H, W, 3] in [0, 1] to Y, float32 [N, H, W, 1] in [16/255, 235/255]."""
    images = tf.cast(images, tf.float32)
    y = tf.reduce_sum(images * BT601.astype(np.float32), axis=-1, keepdims=True)
    return y + np.float32(BLACK / 255.0)


def bicubic_interpolate(images: tf.Tensor, scale: int) -> tf.Tensor:
    """Enlarge as MATLAB's `imresize(images, scale)` does, without rounding, for any shape.

    Args:
        images: float [N, H, W, C].
        scale: an integer of at least 1.

    Returns:
        [N, scale·H, scale·W, C] of the same dtype.
    """
    # A new pixel of phase p is (p + 0.5)/scale - 0.5 away from an old one: 5 taps suffice.
    offsets = (np.arange(scale) + 0.5) / scale - 0.5
    phases = cubic(offsets - np.arange(-2, 3)[:, None])  # [5, scale]
    kernel = np.einsum("yp,xq->yxpq", phases, phases).reshape(5, 5, 1, scale**2)
    for _ in range(2):  # padding by one pixel twice repeats the border
        images = tf.pad(images, [[0, 0], [1, 1], [1, 1], [0, 0]], "SYMMETRIC")
    planes = [
        tf.nn.depth_to_space(
            tf.nn.conv2d(plane, tf.constant(kernel, images.dtype), 1, "VALID"), scale
        )
        for plane in tf.split(images, images.shape[-1], axis=-1)
    ]
    return tf.concat(planes, axis=-1)


class LumaGenerator(Generator):
    """Base class of the generators whose network enlarges luma only, by `predictions`.

    Args:
        scale: 2, 4 or 8.
    """

    features_radius = 0  # all of it is in `upsample`

    def __init__(self, scale: int = 4, **kwargs):
        super().__init__(scale, autocast=False, **kwargs)  # bicubic needs float32

    def predictions(self, y: tf.Tensor) -> list[tf.Tensor]:
        """Enlarge luma [N, H, W, 1] in [0, 1] to float32 [N, scale·H, scale·W, 1].

        Returns:
            The result, and further outputs for training.
        """
        raise NotImplementedError

    @property
    def network_radius(self) -> int:
        """Radius of the network's receptive field, in pixels of the enlarged photo."""
        raise NotImplementedError

    def features(self, inputs, training=False):
        """Return the photo unchanged."""
        return inputs

    def upsample(self, x):
        """Enlarge photos [N, H, W, 3] in [0, 1] to [N, scale·H, scale·W, 3] in [-1, 1]."""
        x = tf.cast(x, tf.float32)
        bicubic = bicubic_interpolate(x, self.scale)
        change = self.predictions(unit_luma(x))[0] - unit_luma(bicubic)
        return 2.0 * (bicubic + _RGB_PER_LUMA * change) - 1.0

    @property
    def upsample_radius(self) -> int:
        """Radius of the receptive field, in pixels of the photo."""
        return math.ceil(self.network_radius / self.scale) + 2  # 2: bicubic

    def _conv(self, filters: int, size: int, **kwargs) -> keras.layers.Conv2D:
        return keras.layers.Conv2D(filters, size, padding="same", dtype=self.dtype_policy, **kwargs)


@keras.saving.register_keras_serializable("srgan_tf")
class SRCNN(LumaGenerator):
    """SRCNN 9-5-5 (Dong et al. 2014): bicubic upscaling, then three convolutions.

    Args:
        scale: 2, 4 or 8.
    """

    network_radius = 4 + 2 + 2

    def __init__(self, scale: int = 4, **kwargs):
        super().__init__(scale, **kwargs)
        self.patches = self._conv(64, 9, activation="relu")
        self.mapping = self._conv(32, 5, activation="relu")
        self.reconstruction = self._conv(1, 5)

    def build(self, input_shape=None):
        self.patches.build((None, None, None, 1))
        self.mapping.build((None, None, None, 64))
        self.reconstruction.build((None, None, None, 32))
        # One channel passes the bicubic image through to the output.
        self.reconstruction.kernel.assign(np.zeros(self.reconstruction.kernel.shape))
        for layer in (self.patches, self.mapping, self.reconstruction):
            _pass_through(layer, 1.0)

    def predictions(self, y):
        x = bicubic_interpolate(y, self.scale)
        return [tf.cast(self.reconstruction(self.mapping(self.patches(x))), tf.float32)]


@keras.saving.register_keras_serializable("srgan_tf")
class ESPCN(LumaGenerator):
    """ESPCN (Shi et al. 2016): three convolutions at low resolution, then a pixel shuffle.

    A new model computes bilinear upscaling, except for the nonlinearity of tanh; its last
    convolution, 3×3, is too small for bicubic.

    Args:
        scale: 2, 4 or 8.
    """

    network_radius = 0

    def __init__(self, scale: int = 4, **kwargs):
        super().__init__(scale, **kwargs)
        # With 25 inputs and 1600 outputs Glorot initialization makes features too small to learn.
        self.head = self._conv(64, 5, activation="tanh", kernel_initializer="he_normal")
        self.mapping = self._conv(32, 3, activation="tanh", kernel_initializer="he_normal")
        self.subpixels = self._conv(scale**2, 3)

    def build(self, input_shape=None):
        self.head.build((None, None, None, 1))
        self.mapping.build((None, None, None, 64))
        self.subpixels.build((None, None, None, 32))
        # One channel passes the image, centred and small enough for tanh to be nearly linear.
        gain = 0.25
        _pass_through(self.head, gain)
        self.head.bias.assign(-0.5 * gain * np.eye(64)[0])
        _pass_through(self.mapping, 1.0)
        offsets = (np.arange(self.scale) + 0.5) / self.scale - 0.5
        taps = np.maximum(0.0, 1.0 - np.abs(offsets - np.arange(-1, 2)[:, None]))
        kernel = np.zeros(self.subpixels.kernel.shape)
        kernel[:, :, 0] = np.einsum("yp,xq->yxpq", taps, taps).reshape(3, 3, -1) / gain
        self.subpixels.kernel.assign(kernel)
        self.subpixels.bias.assign(np.full(self.scale**2, 0.5))

    @property
    def upsample_radius(self) -> int:
        return 2 + 1 + 1

    def predictions(self, y):
        x = self.subpixels(self.mapping(self.head(y)))
        return [tf.cast(tf.nn.depth_to_space(x, self.scale), tf.float32)]


@keras.saving.register_keras_serializable("srgan_tf")
class DRCN(LumaGenerator):
    """DRCN (Kim et al. 2016): one convolution applied recursively to a bicubic upscaling.

    The same two convolutions reconstruct an image from every recursion's features, as a change of
    the bicubic image; the result is a weighted sum of these images with learned weights.

    Args:
        scale: 2, 4 or 8.
        filters: channels, 256 in the paper.
        recursions: 16 in the paper.
        block: factor of space-to-depth before the convolutions, 1 in the paper; with 4 they take a
            sixteenth of the time, and their receptive field is four times as large.
    """

    def __init__(
        self,
        scale: int = 4,
        filters: int = 256,
        recursions: int = 16,
        block: int = 1,
        **kwargs,
    ):
        super().__init__(scale, **kwargs)
        if scale % block:
            raise ValueError(f"the scale ({scale}) must be a multiple of block ({block})")
        self.filters, self.recursions, self.block = filters, recursions, block
        self.embedding = [self._conv(filters, 3, activation="relu") for _ in range(2)]
        # The paper's initialization: each recursion is the identity.
        self.recursion = self._conv(filters, 3, activation="relu", kernel_initializer=identity)
        self.reconstruction = [
            self._conv(filters, 3, activation="relu"),
            self._conv(block**2, 3, kernel_initializer="zeros"),
        ]

    def build(self, input_shape=None):
        features = (None, None, None, self.filters)
        self.embedding[0].build((None, None, None, self.block**2))
        for layer in (self.embedding[1], self.recursion, *self.reconstruction):
            layer.build(features)
        self.averaging = self.add_weight(
            shape=(self.recursions,),
            initializer=keras.initializers.Constant(1.0 / self.recursions),
            name="averaging",
            dtype="float32",
        )

    @property
    def network_radius(self) -> int:
        return self.block * (2 + self.recursions + 2) + self.block - 1

    def predictions(self, y):
        x = bicubic_interpolate(y, self.scale)
        features = self._to_blocks(x)
        for conv in self.embedding:
            features = conv(features)
        outputs = []
        for _ in range(self.recursions):
            features = self.recursion(features)
            change = features
            for conv in self.reconstruction:
                change = conv(change)
            outputs.append(x + tf.cast(self._to_pixels(change), tf.float32))
        weights = tf.unstack(tf.cast(self.averaging.value, tf.float32))
        return [tf.add_n([w * o for w, o in zip(weights, outputs, strict=True)]), *outputs]

    def _to_blocks(self, x):
        return tf.nn.space_to_depth(x, self.block) if self.block > 1 else x

    def _to_pixels(self, x):
        return tf.nn.depth_to_space(x, self.block) if self.block > 1 else x

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "recursions": self.recursions,
            "block": self.block,
        }


def identity(shape, dtype=None) -> np.ndarray:
    """Return the kernel [k, k, C, C] of an identity convolution."""
    kernel = np.zeros(shape, np.float32)
    kernel[shape[0] // 2, shape[1] // 2] = np.eye(shape[2])
    return kernel


def _pass_through(conv: keras.layers.Conv2D, gain: float) -> None:
    """Make the first output channel of a convolution `gain` times its first input channel."""
    kernel = conv.kernel.numpy()
    kernel[..., 0] = 0.0
    kernel[kernel.shape[0] // 2, kernel.shape[1] // 2, 0, 0] = gain
    conv.kernel.assign(kernel)
