"""SRGAN (Ledig et al. 2017): photo-realistic super-resolution in TensorFlow."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from srgan_tf.registration import register_with_keras

if TYPE_CHECKING:
    from srgan_tf.inference.upscaler import Upscaler

# Keras reads this variable when it is imported; the other settings are in keras_settings. Another
# backend that an application has chosen stays, as released generators need no Keras.
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

__all__ = ["Upscaler"]

register_with_keras()


def __getattr__(name: str):
    # Imported on first use, as training with JAX needs no pyvips.
    if name == "Upscaler":
        from srgan_tf.inference.upscaler import Upscaler

        return Upscaler
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
