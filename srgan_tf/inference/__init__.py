"""Enlarge photos with a trained generator; in the usual way without TensorFlow."""

ENGINES = ("auto", "litert", "tensorflow")
PRECISIONS = ("float32", "mixed_bfloat16")
