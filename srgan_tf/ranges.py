"""The range of HR and SR in training, [-1, 1] as in the paper; for NumPy arrays and tensors."""

from __future__ import annotations

from typing import Any


def normalize(levels: Any) -> Any:
    """Map float levels in [0, 255] to [-1, 1]."""
    return levels / 127.5 - 1.0


def denormalize(photos: Any) -> Any:
    """Map photos in [-1, 1] to float levels in [0, 255], which are not rounded."""
    return (photos + 1.0) * 127.5
