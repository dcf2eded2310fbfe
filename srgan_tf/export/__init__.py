"""Export of generators to SavedModel and TensorFlow Lite."""

# Number formats of TensorFlow Lite models; see `srgan_tf.export.tflite`.
MODES = ("float32", "float16", "dynamic", "int8", "int16x8")
