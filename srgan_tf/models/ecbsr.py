"""The generator for phones: ECBSR (Zhang et al. 2021), a chain of 3×3 convolutions."""

import math
from typing import Literal, get_args

import keras
import numpy as np
import tensorflow as tf

from srgan_tf.models.generator import PHOTOS, Generator
from srgan_tf.models.layers import PReLU

_SOBEL = np.array([[1, 0, -1], [2, 0, -2], [1, 0, -1]], np.float32)
_LAPLACE = np.array([[0, 1, 0], [1, -4, 1], [0, 1, 0]], np.float32)
EDGES = np.stack([_SOBEL, _SOBEL.T, _LAPLACE])
"""Fixed kernels of the edge branches, float32 [3, 3, 3]."""

Start = Literal["he", "identity", "zeros"]
Activation = Literal["prelu", "leaky_relu", "relu"]
FIXED_SLOPES = {"leaky_relu": 0.2, "relu": 0.0}
"""Slopes of the activations that have none to learn; 0.2 as in the paper's discriminator."""


@keras.saving.register_keras_serializable("srgan_tf")
class EdgeConv2D(keras.layers.Layer):
    """An edge-oriented convolution block (ECB, Zhang et al. 2021) as a single 3×3 convolution.

    Its kernel is the sum of several branches: a 3×3 kernel; a 1×1 expansion to twice the channels
    followed by 3×3; and 1×1 kernels followed by the two Sobel filters and a Laplacian. All are
    linear, so their kernels are summed and one convolution is computed, in training too (as in
    SESR, Bhardwaj et al. 2022): a training step takes as long as with a plain convolution.

    Args:
        filters: channels of the output.
        start: what a new layer computes: "he", the kernels of He initialization; "identity", its
            input plus an output with a tenth of the power of "he"; or "zeros".

    Raises:
        ValueError: an input with other than `filters` channels, if it starts as the identity.
    """

    def __init__(self, filters: int, start: Start = "he", **kwargs):
        super().__init__(**kwargs)
        self.filters, self.start = filters, start

    def build(self, input_shape):
        inputs, filters = input_shape[-1], self.filters
        # Half the variance of He initialization, as the outputs of two branches are summed.
        power = {"he": 1.0, "identity": 0.1, "zeros": 0.0}[self.start]
        half = keras.initializers.VarianceScaling(power) if power else "zeros"
        lecun = keras.initializers.LecunNormal()

        def weight(name, shape, initializer):
            # Kernels are summed in float32 also under mixed precision.
            return self.add_weight(
                name=name, shape=shape, initializer=initializer, dtype="float32", autocast=False
            )

        self.direct = weight("direct", (3, 3, inputs, filters), half)
        if self.start == "identity":
            if inputs != filters:
                raise ValueError(f"{inputs} channels can't start as {filters} channels' identity")
            self.direct.assign_add(np.pad(np.eye(filters)[None, None], [(1, 1)] * 2 + [(0, 0)] * 2))
        self.expand = weight("expand", (inputs, 2 * inputs), lecun)
        self.squeeze = weight("squeeze", (3, 3, 2 * inputs, filters), half)
        self.edges = weight("edges", (len(EDGES), inputs, filters), lecun)
        self.edge_gains = weight("edge_gains", (len(EDGES), filters), "zeros")
        self.bias = weight("bias", (filters,), "zeros")

    @property
    def kernel(self) -> tf.Tensor:
        """Sum of the branches' kernels, float32 [3, 3, channels in, filters]."""
        expanded = tf.einsum("im,yxmo->yxio", self.expand.value, self.squeeze.value)
        edges = self.edges.value * self.edge_gains.value[:, None]
        return self.direct.value + expanded + tf.einsum("eyx,eio->yxio", EDGES, edges)

    def call(self, inputs):
        kernel = tf.cast(self.kernel, inputs.dtype)
        return tf.nn.conv2d(inputs, kernel, 1, "SAME") + tf.cast(self.bias.value, inputs.dtype)

    def get_config(self):
        return {**super().get_config(), "filters": self.filters, "start": self.start}


@keras.saving.register_keras_serializable("srgan_tf")
class ECBSR(Generator):
    """ECBSR: a chain of 3×3 convolutions at low resolution, then one pixel shuffle.

    Inputs and outputs are those of `Generator`.

    The input is repeated for each phase of the pixel shuffle and added before it: a new model
    computes nearest-neighbour upscaling.

    Args:
        scale: 2, 4 or 8.
        blocks: number of blocks between the first and the last.
        filters: channels.
        activation: prelu as in the paper; leaky_relu, whose fixed slope of 0.2 makes 8-bit models
            faster; or relu, which is part of 8-bit convolution kernels.

    Raises:
        ValueError: a scale other than 2, 4 or 8, no block, no filter, or another activation.
    """

    def __init__(
        self,
        scale: int = 4,
        blocks: int = 10,
        filters: int = 32,
        activation: Activation = "prelu",
        **kwargs,
    ):
        if blocks < 1 or filters < 1:
            raise ValueError(
                f"ECBSR needs blocks >= 1 and filters >= 1, not {blocks} and {filters}"
            )
        super().__init__(scale, **kwargs)
        self.blocks, self.filters, self.activation = blocks, filters, activation
        dtype = self.dtype_policy
        head = EdgeConv2D(filters, dtype=dtype)
        self.convs = [head, *(EdgeConv2D(filters, "identity", dtype=dtype) for _ in range(blocks))]
        self.prelus = [make_prelu(activation, dtype) for _ in self.convs]
        self.tail = EdgeConv2D(3 * scale**2, "zeros", dtype=dtype)

    def build(self, input_shape=None):
        features = (None, None, None, self.filters)
        for index, conv in enumerate(self.convs):
            conv.build(features if index else PHOTOS)
        for prelu in self.prelus:
            prelu.build(features)
        self.tail.build(features)

    def features(self, inputs, training=False):
        """Map [N, H, W, 3] in [0, 1] to features [N, H, W, 3·scale²] in [0, 1]."""
        x = inputs
        for conv, prelu in zip(self.convs, self.prelus, strict=True):
            x = prelu(conv(x))
        anchor = tf.tile(tf.cast(inputs, tf.float32), [1, 1, 1, self.scale**2])
        return anchor + tf.cast(self.tail(x), tf.float32)

    def upsample(self, x):
        """Map features [N, H, W, 3·scale²] to photos [N, scale·H, scale·W, 3] in [-1, 1]."""
        return 2.0 * tf.nn.depth_to_space(tf.cast(x, tf.float32), self.scale) - 1.0

    @property
    def inference_parameters(self) -> int:
        """Number of trainable parameters, after merging each block's branches."""
        convs = [*self.convs, self.tail]
        slopes = [slope for prelu in self.prelus for slope in prelu.trainable_variables]
        # A block's kernel has the shape of its direct branch.
        kept = [*(v for conv in convs for v in (conv.direct, conv.bias)), *slopes]
        return sum(math.prod(variable.shape) for variable in kept)

    @property
    def features_radius(self) -> int:
        """Radius of a feature's receptive field, in pixels."""
        return len(self.convs) + 1

    @property
    def upsample_radius(self) -> int:
        """Radius of an output pixel's receptive field, in features."""
        return 0

    def get_config(self):
        return {
            **super().get_config(),
            "blocks": self.blocks,
            "filters": self.filters,
            "activation": self.activation,
        }


def make_prelu(activation: Activation, dtype) -> PReLU:
    """Create a PReLU, or another activation as a PReLU with fixed slopes.

    Raises:
        ValueError: another activation.
    """
    if activation not in get_args(Activation):
        raise ValueError(f"activation must be one of {get_args(Activation)}, not {activation}")
    if activation == "prelu":
        return PReLU(dtype=dtype)
    slope = keras.initializers.Constant(FIXED_SLOPES[activation])
    return PReLU(alpha_initializer=slope, trainable=False, dtype=dtype)
