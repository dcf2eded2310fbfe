"""Base class of the generators."""

import keras

PHOTOS = (None, None, None, 3)
"""Input shape of generators: RGB of any size."""


class PhotoModel(keras.Model):
    """Base class of models for photos of any size, which can be built without being called.

    Subclasses define two parts: `features`, at low resolution, and `upsample`, from features to the
    enlarged photo.
    """

    def call(self, inputs, training=False):
        return self.upsample(self.features(inputs, training=training))

    def build_from_config(self, config):
        """Build the model for photos of any size; Keras uses this shape for exports."""
        self.build(PHOTOS)
