"""Scores methods on benchmark sets, and prints the paper's two tables from them."""
