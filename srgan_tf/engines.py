"""Engines: what carries out a generator, behind one interface for the Upscaler."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
import tensorflow as tf

from srgan_tf.models import Generator
from srgan_tf.tiles import cut
from srgan_tf.weights import load_generator

# Features of 128×128 pixels need 0.25 GB to be upsampled ×4.
_UPSAMPLE_TILE = 128


class Engine(Protocol):
    """Enlarges float32 [1, h, w, 3] in [0, 1] to float32 [1, scale·h, scale·w, 3] in [-1, 1].

    Attributes:
        scale: how many times as wide and high a result is.
        radius: how many LR pixels to each side an output pixel depends on.
    """

    scale: int
    radius: int

    def __call__(self, lr: tf.Tensor) -> tf.Tensor: ...


def open_engine(model: str | Path, precision: str = "float32") -> Engine:
    """The engine for a released name, a `.keras` file or a run folder.

    Args:
        model: a released name, a `.keras` file or a run folder.
        precision: `float32` or `mixed_bfloat16`.

    Raises:
        RequestError: no such model, or a file that is none.
    """
    return GeneratorEngine(load_generator(model, precision))


class GeneratorEngine:
    """Carries out a Keras generator of this process.

    Upsampling takes most of the memory and little context, features the reverse: small tiles
    for the one within the large tile for the other save time and memory.
    """

    def __init__(self, generator: Generator):
        self.scale = generator.scale
        self.radius = generator.features_radius + generator.upsample_radius
        self._upsample_radius = generator.upsample_radius
        # Each one graph for all sizes.
        lr = tf.TensorSpec([1, None, None, 3], tf.float32)
        self._features = tf.function(lambda x: generator.features(x), input_signature=[lr])
        features = tf.TensorSpec.from_tensor(
            self._features.get_concrete_function().structured_outputs
        )
        self._upsample = tf.function(lambda x: generator.upsample(x), input_signature=[features])

    def __call__(self, lr: tf.Tensor) -> tf.Tensor:
        features = self._features(lr)
        height, width = lr.shape[1:3]
        sr = np.empty((1, self.scale * height, self.scale * width, 3), np.float32)
        for tile in cut((height, width), self.scale, _UPSAMPLE_TILE, self._upsample_radius):
            sr[0][tile.write] = self._upsample(features[:, *tile.read])[0].numpy()[tile.crop]
        return sr
