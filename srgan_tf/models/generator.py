"""The base class of the generators."""

import math

import keras

PHOTOS = (None, None, None, 3)
"""Input shape of generators: RGB of any size."""
SCALES = (2, 4, 8)


class Generator(keras.Model):
    """Base class of the generators, which can be built without being called.

    Call one with float [N, H, W, 3] in [0, 1], any H and W; it returns float32
    [N, scale·H, scale·W, 3] nominally in [-1, 1] (not clipped).

    Subclasses define two parts: `features`, at low resolution, and `upsample`, from features to the
    enlarged photo; and their receptive fields, `features_radius` and `upsample_radius`.

    Args:
        scale: 2, 4 or 8.

    Raises:
        ValueError: another scale.
    """

    def __init__(self, scale: int, **kwargs):
        if scale not in SCALES:
            raise ValueError(f"scale must be one of {SCALES}, not {scale}")
        super().__init__(**kwargs)
        self.scale = scale

    def call(self, inputs, training=False):
        return self.upsample(self.features(inputs, training=training))

    @property
    def inference_parameters(self) -> int:
        """Number of trainable parameters, after merging the branches that training alone has."""
        return sum(math.prod(variable.shape) for variable in self.trainable_variables)

    def build_from_config(self, config):
        """Build the model for photos of any size; Keras uses this shape for exports."""
        self.build(PHOTOS)

    def get_config(self):
        return {**super().get_config(), "scale": self.scale}
