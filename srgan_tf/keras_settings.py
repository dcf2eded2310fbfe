"""Keras settings that the models need, whatever the user's keras.json says.

Import it before creating a layer.
"""

from __future__ import annotations

import keras

if keras.config.backend() != "tensorflow":
    raise ImportError(
        f"srgan_tf needs Keras' TensorFlow backend, but Keras was imported with "
        f"{keras.config.backend()}: set KERAS_BACKEND=tensorflow"
    )
keras.config.set_image_data_format("channels_last")
keras.config.set_floatx("float32")
