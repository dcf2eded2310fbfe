"""The engine of Keras generators."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from srgan_tf.inference.tiles import DEFAULT_TILE, UPSAMPLE_TILE, cut_tiles
from srgan_tf.models import Generator


class KerasEngine:
    """Runs a Keras generator.

    Upsampling needs most of the memory and little context, features the reverse: upsampling in
    small tiles within a large tile of features saves time and memory.
    """

    tile = DEFAULT_TILE
    batched = True

    def __init__(self, generator: Generator):
        self.scale = generator.scale
        self.radius = generator.features_radius + generator.upsample_radius
        self._upsample_radius = generator.upsample_radius
        # One graph each, for all sizes.
        lr = tf.TensorSpec([None, None, None, 3], tf.float32)
        self._features = tf.function(
            lambda x: generator.features(x), input_signature=[lr], autograph=False
        )
        features = tf.TensorSpec.from_tensor(
            self._features.get_concrete_function().structured_outputs
        )
        self._upsample = tf.function(
            lambda x: generator.upsample(x) * 0.5 + 0.5, input_signature=[features], autograph=False
        )

    def __call__(self, lr: np.ndarray) -> np.ndarray:
        features = self._features(lr)
        count, height, width = lr.shape[:3]
        sr = np.empty((count, self.scale * height, self.scale * width, 3), np.float32)
        for tile in cut_tiles((height, width), self.scale, UPSAMPLE_TILE, self._upsample_radius):
            part = self._upsample(features[:, *tile.read]).numpy()
            sr[:, *tile.write] = part[:, *tile.crop]
        return sr
