"""The generator: SRResNet (Ledig et al. 2017, section 2.1.1 and figure 4)."""

import math

import keras
import numpy as np
import tensorflow as tf

from srgan_tf.models.generator import PHOTOS, Generator
from srgan_tf.models.layers import BatchNormalization, NarrowConv2D, PReLU


@keras.saving.register_keras_serializable("srgan_tf")
class ResidualBlock(keras.layers.Layer):
    """A residual block: the input plus conv3–BN–PReLU–conv3–BN of it."""

    def __init__(self, filters: int, **kwargs):
        super().__init__(**kwargs)
        self.filters = filters
        dtype = self.dtype_policy
        self.conv1 = keras.layers.Conv2D(filters, 3, padding="same", use_bias=False, dtype=dtype)
        self.bn1 = BatchNormalization(dtype=dtype)
        self.prelu = PReLU(dtype=dtype)
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
        return {**super().get_config(), "filters": self.filters}


@keras.saving.register_keras_serializable("srgan_tf")
class SRResNet(Generator):
    """SRResNet, the paper's generator; inputs and outputs are those of `Generator`.

    A new model computes bilinear upscaling: the residual blocks are initially the identity, and
    three of the channels pass RGB to the output. The paper does not state its initialization; this
    one gains 1.4 dB on Set5 after 1000 steps.

    Args:
        scale: 2, 4 or 8; one pixel-shuffle stage for each factor of 2.
        blocks: residual blocks, 16 in the paper.
        filters: channels of the trunk, 64 in the paper; at least 3.

    Raises:
        ValueError: a scale other than 2, 4 or 8, no block, or fewer than 3 filters.
    """

    def __init__(self, scale: int = 4, blocks: int = 16, filters: int = 64, **kwargs):
        if blocks < 1 or filters < 3:
            raise ValueError(
                f"SRResNet needs blocks >= 1 and filters >= 3, not {blocks} and {filters}"
            )
        super().__init__(scale, **kwargs)
        self.blocks, self.filters = blocks, filters
        dtype = self.dtype_policy
        self.head = keras.layers.Conv2D(filters, 9, padding="same", dtype=dtype)
        self.head_prelu = PReLU(dtype=dtype)
        self.trunk = [ResidualBlock(filters, dtype=dtype) for _ in range(blocks)]
        self.trunk_conv = keras.layers.Conv2D(
            filters, 3, padding="same", use_bias=False, dtype=dtype
        )
        self.trunk_bn = BatchNormalization(gamma_initializer="zeros", dtype=dtype)
        stages = scale.bit_length() - 1
        self.upsample_convs = [
            keras.layers.Conv2D(4 * filters, 3, padding="same", dtype=dtype) for _ in range(stages)
        ]
        self.upsample_prelus = [PReLU(dtype=dtype) for _ in range(stages)]
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
        return self.tail(x)

    @property
    def features_radius(self) -> int:
        """Radius of a feature's receptive field, in pixels."""
        return 4 + 2 * self.blocks + 1  # 9×9 head, two 3×3 per block, 3×3

    @property
    def upsample_radius(self) -> int:
        """Radius of an output pixel's receptive field, in features."""
        radius = 4  # 9×9 tail
        for _ in self.upsample_convs:
            radius = math.ceil(radius / 2) + 1
        return radius

    def get_config(self):
        return {**super().get_config(), "blocks": self.blocks, "filters": self.filters}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        # Files of earlier versions name an activation and an upsampler, maybe not the paper's.
        config = dict(config)
        for key, papers in (("activation", "prelu"), ("upsampler", "staged")):
            if (other := config.pop(key, papers)) != papers:
                raise ValueError(f"SRResNet no longer supports {key} {other}")
        return super().from_config(config, custom_objects)

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
        kernel[4, 4, rgb, rgb] = 2.0  # [0, 1] to [-1, 1], with the bias
        self.tail.kernel.assign(kernel)
        self.tail.bias.assign(np.full(3, -1.0))
