"""Enlarging photos with a trained generator, by default without TensorFlow."""

ENGINES = ("auto", "litert", "tensorflow")
PRECISIONS = ("float32", "mixed_bfloat16")
OUT_OF_MEMORY = "not enough memory for its enlargement; a smaller tile (--tile) needs less"
