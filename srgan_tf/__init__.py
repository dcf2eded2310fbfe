"""SRGAN (Ledig et al. 2017): photo-realistic super-resolution in TensorFlow."""

from __future__ import annotations

from srgan_tf.registration import register_with_keras

__all__ = ["Upscaler"]

register_with_keras()


def __getattr__(name: str):
    # TensorFlow takes seconds to import, which `import srgan_tf` alone need not wait for.
    if name == "Upscaler":
        from srgan_tf.inference import Upscaler

        return Upscaler
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
