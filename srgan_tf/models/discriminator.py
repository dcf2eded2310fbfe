"""The discriminator (Ledig et al. 2017, section 2.1.1 and figure 4)."""

import keras

from srgan_tf.models.layers import BatchNormalization

STRIDE = 16


@keras.saving.register_keras_serializable("srgan_tf")
class Discriminator(keras.Model):
    """Tells HR photos from generated ones; returns logits, not probabilities.

    Call it with float [N, H, W, 3] in [-1, 1], H and W multiples of 16 (96 in the
    paper, which fixes the size for the dense layer); it returns float32 [N, 1].

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
                "the discriminator needs a height and a width that are "
                f"multiples of {STRIDE}, not {height}×{width}"
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

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "dense_units": self.dense_units,
        }
