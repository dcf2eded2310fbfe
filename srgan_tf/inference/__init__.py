"""Enlarge photos with a trained generator; in the usual way without TensorFlow."""
