"""The engine of Keras generators."""

from __future__ import annotations

from collections.abc import Callable

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
        self._features = _trace(lambda x: generator.features(x), lr)
        features = tf.TensorSpec.from_tensor(self._features.structured_outputs)
        self._upsample = _trace(lambda x: generator.upsample(x) * 0.5 + 0.5, features)

    def __call__(self, lr: np.ndarray) -> np.ndarray:
        try:
            return self._enlarge(lr)
        except tf.errors.ResourceExhaustedError as error:
            raise MemoryError(error.message) from None

    def _enlarge(self, lr: np.ndarray) -> np.ndarray:
        features = self._features(lr)
        count, height, width = lr.shape[:3]
        sr = np.empty((count, self.scale * height, self.scale * width, 3), np.float32)
        for tile in cut_tiles((height, width), self.scale, UPSAMPLE_TILE, self._upsample_radius):
            part = self._upsample(features[:, *tile.read]).numpy()
            sr[:, *tile.write] = part[:, *tile.crop]
        return sr


def _trace(function: Callable[[tf.Tensor], tf.Tensor], argument: tf.TensorSpec):
    return tf.function(function, autograph=False).get_concrete_function(argument)
