"""What all generators share."""

import keras

PHOTOS = (None, None, None, 3)
"""The shape of what generators take: RGB of any size."""


class PhotoModel(keras.Model):
    """A model of photos of any size, which is built without being called.

    It has two parts: `features`, at low resolution, and `upsample`, which makes the photo of them.
    """

    def call(self, inputs, training=False):
        return self.upsample(self.features(inputs, training=training))

    def build_from_config(self, config):
        """Builds the model for photos of any size, whichever it had been built for.

        Keras asks for this shape when a model is exported (`export`, TFLite's converter).
        """
        self.build(PHOTOS)
