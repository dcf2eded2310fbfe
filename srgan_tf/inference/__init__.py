"""Enlarging photos with a trained generator, by default without TensorFlow."""

ENGINES = ("auto", "litert", "tensorflow")
PRECISIONS = ("float32", "mixed_bfloat16")
