"""The baselines of the paper's table 2 that are networks: SRCNN, ESPCN and DRCN.

They enlarge luma; chroma is enlarged bicubically, as their papers do. In front of and behind
that they keep SRResNet's contract, so that whatever trains, loads or carries out a generator
takes them too. New ones compute bicubic upscaling, as a new SRResNet computes bilinear.
"""

from __future__ import annotations

import math

import keras
import numpy as np
import tensorflow as tf

from srgan_tf.metrics import BLACK, BT601
from srgan_tf.models.generator import PhotoModel
from srgan_tf.models.srresnet import SCALES
from srgan_tf.resize import cubic

# A change of Y changes each of R, G and B by this much, when Cb and Cr stay.
_RGB_PER_LUMA = 255.0 / 219.0


def unit_luma(images: tf.Tensor) -> tf.Tensor:
    """Y of RGB [N, H, W, 3] in [0, 1]: float32 [N, H, W, 1] in [16/255, 235/255]."""
    images = tf.cast(images, tf.float32)
    y = tf.reduce_sum(images * BT601.astype(np.float32), axis=-1, keepdims=True)
    return y + np.float32(BLACK / 255.0)


def bicubic_interpolate(images: tf.Tensor, scale: int) -> tf.Tensor:
    """Enlarge as MATLAB's `imresize(images, scale)`, unrounded, also sizes known only in the graph.

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


class LumaGenerator(PhotoModel):
    """A generator whose network sees luma alone.

    Call it with float [N, H, W, 3] in [0, 1], any H and W; it returns float32
    [N, scale·H, scale·W, 3] nominally in [-1, 1] (not clipped).

    Args:
        scale: 2, 4 or 8.

    Raises:
        ValueError: another scale.
    """

    features_radius = 0  # all of it counts as upsampling, of the photo itself

    def __init__(self, scale: int = 4, **kwargs):
        if scale not in SCALES:
            raise ValueError(f"scale must be one of {SCALES}, not {scale}")
        super().__init__(autocast=False, **kwargs)  # bicubic needs more than bfloat16
        self.scale = scale

    def predictions(self, y: tf.Tensor) -> list[tf.Tensor]:
        """Luma [N, H, W, 1] in [0, 1] to enlarged luma float32 [N, scale·H, scale·W, 1].

        Returns:
            The result, and what else training supervises.
        """
        raise NotImplementedError

    @property
    def network_radius(self) -> int:
        """How many pixels of the enlarged photo to each side an output pixel depends on."""
        raise NotImplementedError

    def features(self, inputs, training=False):
        """The photo as it is."""
        return inputs

    def upsample(self, x):
        """Photos [N, H, W, 3] in [0, 1] to photos [N, scale·H, scale·W, 3] in [-1, 1]."""
        x = tf.cast(x, tf.float32)
        bicubic = bicubic_interpolate(x, self.scale)
        change = self.predictions(unit_luma(x))[0] - unit_luma(bicubic)
        return 2.0 * (bicubic + _RGB_PER_LUMA * change) - 1.0

    @property
    def upsample_radius(self) -> int:
        """How many pixels of the photo to each side an output pixel depends on."""
        return math.ceil(self.network_radius / self.scale) + 2  # 2: bicubic

    def get_config(self):
        return {**super().get_config(), "scale": self.scale}

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
        # One channel carries the bicubic image through to the output.
        self.reconstruction.kernel.assign(np.zeros(self.reconstruction.kernel.shape))
        for layer in (self.patches, self.mapping, self.reconstruction):
            _carry(layer, 1.0)

    def predictions(self, y):
        x = bicubic_interpolate(y, self.scale)
        return [tf.cast(self.reconstruction(self.mapping(self.patches(x))), tf.float32)]


@keras.saving.register_keras_serializable("srgan_tf")
class ESPCN(LumaGenerator):
    """ESPCN (Shi et al. 2016): three convolutions at low resolution, then a pixel shuffle.

    A new one computes bilinear upscaling, to within the bend of its tanh: its last convolution,
    3×3, has no room for bicubic.

    Args:
        scale: 2, 4 or 8.
    """

    network_radius = 0

    def __init__(self, scale: int = 4, **kwargs):
        super().__init__(scale, **kwargs)
        # Glorot's start, of 25 inputs and 1600 outputs, leaves features too faint to learn from.
        self.head = self._conv(64, 5, activation="tanh", kernel_initializer="he_normal")
        self.mapping = self._conv(32, 3, activation="tanh", kernel_initializer="he_normal")
        self.subpixels = self._conv(scale**2, 3)

    def build(self, input_shape=None):
        self.head.build((None, None, None, 1))
        self.mapping.build((None, None, None, 64))
        self.subpixels.build((None, None, None, 32))
        # One channel carries the image, in the middle of tanh and small enough for it to be linear.
        gain = 0.25
        _carry(self.head, gain)
        self.head.bias.assign(-0.5 * gain * np.eye(64)[0])
        _carry(self.mapping, 1.0)
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
    """DRCN (Kim et al. 2016): one convolution applied again and again to a bicubic upscaling.

    Every recursion's features are reconstructed by the same two convolutions, as a change of
    the bicubic image; the result is their sum with learned weights.

    Args:
        scale: 2, 4 or 8.
        filters: channels, 256 in the paper.
        recursions: 16 in the paper.
        block: side of the blocks of pixels that the convolutions take for one pixel of block²
            channels; 1 in the paper. With 4 they cost a sixteenth and reach four times as far.
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
        # The paper's start: each recursion keeps the features.
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
    """The kernel of a convolution, [k, k, C, C], that keeps its input."""
    kernel = np.zeros(shape, np.float32)
    kernel[shape[0] // 2, shape[1] // 2] = np.eye(shape[2])
    return kernel


def _carry(conv: keras.layers.Conv2D, gain: float) -> None:
    """Makes the first output channel of a convolution `gain` times its first input channel."""
    kernel = conv.kernel.numpy()
    kernel[..., 0] = 0.0
    kernel[kernel.shape[0] // 2, kernel.shape[1] // 2, 0, 0] = gain
    conv.kernel.assign(kernel)
