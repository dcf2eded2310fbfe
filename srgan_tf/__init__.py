"""SRGAN (Ledig et al. 2017): photo-realistic super-resolution in TensorFlow."""

from __future__ import annotations

import os

from srgan_tf.registration import register_with_keras

# Read by Keras when it is imported; see srgan_tf.keras_settings for what else it must be told.
os.environ["KERAS_BACKEND"] = "tensorflow"

__all__ = ["Upscaler"]

register_with_keras()


def __getattr__(name: str):
    # TensorFlow takes seconds to import, which `import srgan_tf` alone need not wait for.
    if name == "Upscaler":
        from srgan_tf.inference.upscaler import Upscaler

        return Upscaler
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
