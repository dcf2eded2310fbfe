"""Evaluation of super-resolution methods on benchmark sets."""
