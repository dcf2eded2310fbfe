"""Keras as this package's models need it, whatever keras.json in the user's home folder says.

To be imported before a layer is made.
"""

from __future__ import annotations

import keras

if keras.config.backend() != "tensorflow":
    raise ImportError(
        f"srgan_tf needs Keras' TensorFlow backend, and Keras was imported with "
        f"{keras.config.backend()} before: import srgan_tf first, or set KERAS_BACKEND=tensorflow"
    )
keras.config.set_image_data_format("channels_last")
keras.config.set_floatx("float32")
