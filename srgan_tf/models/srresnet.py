"""The generator: SRResNet (Ledig et al. 2017, section 2.1.1 and figure 4)."""

import math
from typing import Literal, get_args

import keras
import numpy as np
import tensorflow as tf

from srgan_tf.models.generator import PHOTOS, Generator
from srgan_tf.models.layers import Activation, BatchNormalization, NarrowConv2D, make_prelu

Upsampler = Literal["staged", "subpixel"]


@keras.saving.register_keras_serializable("srgan_tf")
class ResidualBlock(keras.layers.Layer):
    """A residual block: the input plus conv3–BN–PReLU–conv3–BN of it."""

    def __init__(self, filters: int, activation: Activation = "prelu", **kwargs):
        super().__init__(**kwargs)
        self.filters, self.activation = filters, activation
        dtype = self.dtype_policy
        self.conv1 = keras.layers.Conv2D(filters, 3, padding="same", use_bias=False, dtype=dtype)
        self.bn1 = BatchNormalization(dtype=dtype)
        self.prelu = make_prelu(activation, dtype)
        self.conv2 = keras.layers.Conv2D(filters, 3, padding="same", use_bias=False, dtype=dtype)
        # The block is initially the identity: 28.7 instead of 27.0 dB after 1000 steps.
        self.bn2 = BatchNormalization(gamma_initializer="zeros", dtype=dtype)

    def build(self, input_shape):
        for layer in (self.conv1, self.bn1, self.prelu, self.conv2, self.bn2):
            layer.build(input_shape)

    def call(self, inputs, training=False):
        x = self.prelu(self.bn1(self.conv1(inputs), training=training))
        return inputs + self.bn2(self.conv2(x), training=training)

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "activation": self.activation,
        }


@keras.saving.register_keras_serializable("srgan_tf")
class SRResNet(Generator):
    """SRResNet, the paper's generator; inputs and outputs are those of `Generator`.

    A new model computes bilinear upscaling, or nearest-neighbour with the subpixel upsampler: the
    residual blocks are initially the identity, and three of the channels pass RGB to the output.
    The paper does not state its initialization; this one gains 1.4 dB on Set5 after 1000 steps.

    Args:
        scale: 2, 4 or 8; one pixel-shuffle stage for each factor of 2.
        blocks: residual blocks, 16 in the paper.
        filters: channels of the trunk, 64 in the paper; at least 3.
        activation: prelu as in the paper; leaky_relu, whose fixed slope of 0.2 makes 8-bit models
            faster; or relu, which is part of 8-bit convolution kernels.
        upsampler: staged as in the paper, ×2 at a time and then a 9×9 convolution, or subpixel, a
            3×3 convolution at low resolution and one pixel shuffle, as in ESPCN.

    Raises:
        ValueError: a scale other than 2, 4 or 8, no block, fewer than 3 filters, or another
            activation or upsampler.
    """

    def __init__(
        self,
        scale: int = 4,
        blocks: int = 16,
        filters: int = 64,
        activation: Activation = "prelu",
        upsampler: Upsampler = "staged",
        **kwargs,
    ):
        if blocks < 1 or filters < 3:
            raise ValueError(
                f"SRResNet needs blocks >= 1 and filters >= 3, not {blocks} and {filters}"
            )
        if upsampler not in get_args(Upsampler):
            raise ValueError(f"upsampler must be one of {get_args(Upsampler)}, not {upsampler}")
        super().__init__(scale, **kwargs)
        self.blocks, self.filters = blocks, filters
        self.activation, self.upsampler = activation, upsampler
        dtype = self.dtype_policy
        self.head = keras.layers.Conv2D(filters, 9, padding="same", dtype=dtype)
        self.head_prelu = make_prelu(activation, dtype)
        self.trunk = [ResidualBlock(filters, activation, dtype=dtype) for _ in range(blocks)]
        self.trunk_conv = keras.layers.Conv2D(
            filters, 3, padding="same", use_bias=False, dtype=dtype
        )
        self.trunk_bn = BatchNormalization(gamma_initializer="zeros", dtype=dtype)
        stages = scale.bit_length() - 1 if upsampler == "staged" else 0
        self.upsample_convs = [
            keras.layers.Conv2D(4 * filters, 3, padding="same", dtype=dtype) for _ in range(stages)
        ]
        self.upsample_prelus = [make_prelu(activation, dtype) for _ in range(stages)]
        self.tail: keras.layers.Conv2D
        if upsampler == "subpixel":
            self.tail = keras.layers.Conv2D(3 * scale**2, 3, padding="same", dtype=dtype)
        else:
            self.tail = NarrowConv2D(3, 9, dtype=dtype)

    def build(self, input_shape=None):
        features = (None, None, None, self.filters)
        self.head.build(PHOTOS)
        self.head_prelu.build(features)
        for block in self.trunk:
            block.build(features)
        self.trunk_conv.build(features)
        self.trunk_bn.build(features)
        for conv, prelu in zip(self.upsample_convs, self.upsample_prelus, strict=True):
            conv.build(features)
            prelu.build(features)
        self.tail.build(features)
        self._start_as_interpolation()

    def features(self, inputs, training=False):
        """Map [N, H, W, 3] in [0, 1] to features [N, H, W, filters]."""
        head = self.head_prelu(self.head(inputs))
        x = head
        for block in self.trunk:
            x = block(x, training=training)
        return head + self.trunk_bn(self.trunk_conv(x), training=training)

    def upsample(self, x):
        """Map features [N, H, W, filters] to photos [N, scale·H, scale·W, 3] in [-1, 1]."""
        for conv, prelu in zip(self.upsample_convs, self.upsample_prelus, strict=True):
            x = prelu(tf.nn.depth_to_space(conv(x), 2))
        if self.upsampler == "subpixel":
            return tf.cast(tf.nn.depth_to_space(self.tail(x), self.scale), tf.float32)
        return self.tail(x)

    @property
    def features_radius(self) -> int:
        """Radius of a feature's receptive field, in pixels."""
        return 4 + 2 * self.blocks + 1  # 9×9 head, two 3×3 per block, 3×3

    @property
    def upsample_radius(self) -> int:
        """Radius of an output pixel's receptive field, in features."""
        radius = self.tail.kernel_size[0] // 2
        for _ in self.upsample_convs:
            radius = math.ceil(radius / 2) + 1
        return radius

    def get_config(self):
        return {
            **super().get_config(),
            "blocks": self.blocks,
            "filters": self.filters,
            "activation": self.activation,
            "upsampler": self.upsampler,
        }

    def _start_as_interpolation(self):
        """Initialize the first three channels to pass RGB, enlarged, to the output."""
        rgb = np.arange(3)
        kernel = self.head.kernel.numpy()
        kernel[..., rgb] = 0.0
        kernel[4, 4, rgb, rgb] = 1.0
        self.head.kernel.assign(kernel)

        # Along an axis the new pixel at phase 0 lies a quarter of the way to the previous pixel,
        # the one at phase 1 a quarter of the way to the next.
        taps = np.array([[0.25, 0.75, 0.0], [0.0, 0.75, 0.25]])
        for conv in self.upsample_convs:
            kernel = conv.kernel.numpy()
            for row in range(2):
                for column in range(2):
                    # depth_to_space reads output channel c of a phase at phase·filters + c.
                    outputs = (2 * row + column) * self.filters + rgb
                    kernel[..., outputs] = 0.0
                    kernel[:, :, rgb, outputs] = np.outer(taps[row], taps[column])[..., None]
            conv.kernel.assign(kernel)

        kernel = np.zeros(self.tail.kernel.shape, np.float32)
        size, _, _, outputs = kernel.shape
        for phase in range(0, outputs, 3):
            # [0, 1] to [-1, 1], with the bias
            kernel[size // 2, size // 2, rgb, phase + rgb] = 2.0
        self.tail.kernel.assign(kernel)
        self.tail.bias.assign(np.full(outputs, -1.0))
