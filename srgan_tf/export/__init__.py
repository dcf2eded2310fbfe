"""Export: the generator in the forms that phones and servers run."""

# How a TensorFlow Lite model stores and computes its numbers; see `srgan_tf.export.tflite`.
MODES = ("float32", "float16", "dynamic", "int8", "int16x8")
