"""The discriminators: the paper's, and a U-Net with one logit per pixel."""

import keras
import tensorflow as tf

from srgan_tf.models.layers import BatchNormalization, slice_axis

STRIDE = 16


@keras.saving.register_keras_serializable("srgan_tf")
class Discriminator(keras.Model):
    """The paper's discriminator (Ledig et al. 2017, section 2.1.1 and figure 4).

    Call it with float [N, H, W, 3] in [-1, 1], with H and W that are multiples of 16 and fixed when
    the model is built (96 in the paper); it returns logits, float32 [N, 1].

    Args:
        filters: channels of the first convolution, 64 in the paper.
        dense_units: units of the first dense layer, 1024 in the paper.
    """

    def __init__(self, filters: int = 64, dense_units: int = 1024, **kwargs):
        super().__init__(**kwargs)
        self.filters, self.dense_units = filters, dense_units
        dtype = self.dtype_policy
        self.head = keras.layers.Conv2D(filters, 3, padding="same", dtype=dtype)
        self.convs, self.bns = [], []
        for multiple, stride in ((1, 2), (2, 1), (2, 2), (4, 1), (4, 2), (8, 1), (8, 2)):
            self.convs.append(
                keras.layers.Conv2D(
                    multiple * filters,
                    3,
                    strides=stride,
                    padding="same",
                    use_bias=False,
                    dtype=dtype,
                )
            )
            self.bns.append(BatchNormalization(dtype=dtype))
        self.activation = keras.layers.LeakyReLU(0.2, dtype=dtype)
        self.flatten = keras.layers.Flatten(dtype=dtype)
        self.dense = keras.layers.Dense(dense_units, dtype=dtype)
        self.logits = keras.layers.Dense(1, dtype="float32")

    def build(self, input_shape):
        _, height, width, _ = input_shape
        if not (height and width) or height % STRIDE or width % STRIDE:
            raise ValueError(
                f"the discriminator needs a height and width that are multiples of {STRIDE}, not "
                f"{height}×{width}"
            )
        shape = tuple(input_shape)
        self.head.build(shape)
        shape = self.head.compute_output_shape(shape)
        for conv, bn in zip(self.convs, self.bns, strict=True):
            conv.build(shape)
            shape = conv.compute_output_shape(shape)
            bn.build(shape)
        self.flatten.build(shape)
        shape = self.flatten.compute_output_shape(shape)
        self.dense.build(shape)
        self.logits.build((None, self.dense_units))

    def call(self, inputs, training=False):
        x = self.activation(self.head(inputs))
        for conv, bn in zip(self.convs, self.bns, strict=True):
            x = self.activation(bn(conv(x), training=training))
        x = self.activation(self.dense(self.flatten(x)))
        return self.logits(x)

    def judge(self, hr, sr):
        """Return the logits of HR and SR for training D, each with its own batch statistics."""
        return self(hr, training=True), self(sr, training=True)

    def judge_generated(self, sr):
        """Return the logits of SR that the generator learns from."""
        return self(sr, training=True)

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "dense_units": self.dense_units,
        }


@keras.saving.register_keras_serializable("srgan_tf")
class SpectralConv2D(keras.layers.Conv2D):
    """A 2D convolution with spectral normalization (Miyato et al. 2018).

    The kernel, as a matrix [height·width·inputs, filters], is divided by its largest singular
    value, by one step of power iteration per call with training=True. Unlike
    `keras.layers.SpectralNormalization` it does not assign to the kernel, so that the gradient
    passes through the normalization and replicas need not agree on an assignment.
    """

    def build(self, input_shape):
        super().build(input_shape)
        self.left = self.add_weight(
            name="left",
            shape=(self.filters,),
            initializer=keras.initializers.RandomNormal(stddev=1.0),
            trainable=False,
            aggregation="mean",
            dtype="float32",
            autocast=False,
        )

    def call(self, inputs, training=False):
        matrix = tf.reshape(tf.cast(self.kernel, tf.float32), [-1, self.filters])
        left = tf.math.l2_normalize(tf.convert_to_tensor(self.left))
        right = tf.math.l2_normalize(tf.linalg.matvec(matrix, left))
        if training:
            left = tf.math.l2_normalize(tf.linalg.matvec(matrix, right, transpose_a=True))
            self.left.assign(tf.stop_gradient(left))
        left, right = tf.stop_gradient(left), tf.stop_gradient(right)
        norm = tf.tensordot(right, tf.linalg.matvec(matrix, left), 1)
        kernel = tf.cast(tf.cast(self.kernel, tf.float32) / norm, self.compute_dtype)
        outputs = tf.nn.conv2d(inputs, kernel, self.strides, self.padding.upper())
        if self.use_bias:
            outputs += tf.cast(self.bias, self.compute_dtype)
        return outputs


@keras.saving.register_keras_serializable("srgan_tf")
class UNetDiscriminator(keras.Model):
    """Real-ESRGAN's discriminator, with one logit per pixel (Wang et al. 2021, section 3.3).

    A U-Net with spectral normalization. Call it with float [N, H, W, 3] in [-1, 1], H and W
    multiples of 8; it returns logits, float32 [N, H, W, 1].

    Args:
        filters: channels of the first convolution, 64 in the paper.
    """

    def __init__(self, filters: int = 64, **kwargs):
        super().__init__(**kwargs)
        self.filters = filters
        dtype = self.dtype_policy
        self.head = keras.layers.Conv2D(filters, 3, padding="same", dtype=dtype)
        self.down = [self._conv(multiple * filters, 4, strides=2) for multiple in (2, 4, 8)]
        self.up = [self._conv(multiple * filters, 3) for multiple in (4, 2, 1)]
        self.last = [self._conv(filters, 3) for _ in range(2)]
        self.logits = keras.layers.Conv2D(1, 3, padding="same", dtype="float32")
        self.activation = keras.layers.LeakyReLU(0.2, dtype=dtype)

    def _conv(self, filters: int, size: int, **kwargs) -> SpectralConv2D:
        return SpectralConv2D(
            filters, size, padding="same", use_bias=False, dtype=self.dtype_policy, **kwargs
        )

    def build(self, input_shape=None):
        def features(multiple):
            return (None, None, None, multiple * self.filters)

        self.head.build((None, None, None, 3))
        for conv, multiple in zip(self.down, (1, 2, 4), strict=True):
            conv.build(features(multiple))
        for conv, multiple in zip(self.up, (8, 4, 2), strict=True):
            conv.build(features(multiple))
        for conv in self.last:
            conv.build(features(1))
        self.logits.build(features(1))

    def call(self, inputs, training=False):
        skips = [self.activation(self.head(inputs))]
        for conv in self.down:
            skips.append(self.activation(conv(skips[-1], training=training)))
        x = skips.pop()
        for conv in self.up:
            x = self.activation(conv(upsample_bilinear(x), training=training)) + skips.pop()
        for conv in self.last:
            x = self.activation(conv(x, training=training))
        return self.logits(x)

    def judge(self, hr, sr):
        """Return the logits of HR and SR for training D, with one step of power iteration."""
        return tf.split(self(tf.concat([hr, sr], 0), training=True), 2)

    def judge_generated(self, sr):
        """Return the logits of SR that the generator learns from."""
        return self(sr, training=False)

    def get_config(self):
        return {**super().get_config(), "filters": self.filters}


def upsample_bilinear(x: tf.Tensor) -> tf.Tensor:
    """Enlarge [N, H, W, C] twofold by bilinear interpolation with repeated borders.

    `tf.image.resize` has no deterministic gradient on GPUs.
    """
    for axis in (1, 2):
        paddings = [[0, 0]] * 4
        paddings[axis] = [1, 1]
        padded = tf.pad(x, paddings, "SYMMETRIC")
        length = tf.shape(x)[axis]
        before, after = (slice_axis(padded, start, length, axis) for start in (0, 2))
        pair = tf.stack([0.75 * x + 0.25 * before, 0.75 * x + 0.25 * after], axis=axis + 1)
        shape = tf.unstack(tf.shape(x))
        shape[axis] *= 2
        x = tf.reshape(pair, shape)
    return x
