"""MATLAB's bicubic `imresize`, of one axis, as a sparse matrix."""

import math

import numpy as np
from scipy import sparse


def resize_matrix(size: int, new_size: int) -> sparse.csr_array:
    """What resizes one axis: `matrix @ pixels`. Cubic kernel, repeated borders.

    A kernel that shrinks an axis is wider by the same factor (antialiasing).

    Returns:
        float32 [new_size, size], rows that sum to 1.
    """
    scale = new_size / size
    width = 4.0 * max(1.0, 1.0 / scale)
    stretch = min(1.0, scale)
    centers = (np.arange(new_size) + 0.5) / scale - 0.5
    first = np.floor(centers - width / 2).astype(int)
    taps = first[:, None] + np.arange(math.ceil(width) + 2)
    values = cubic(stretch * (centers[:, None] - taps))
    values /= values.sum(axis=1, keepdims=True)
    rows = np.broadcast_to(np.arange(new_size)[:, None], taps.shape)
    entries = values.ravel(), (rows.ravel(), taps.clip(0, size - 1).ravel())
    matrix = sparse.coo_array(entries, shape=(new_size, size)).tocsr()  # adds up equal places
    matrix.eliminate_zeros()
    return matrix.astype(np.float32)


def cubic(x: np.ndarray) -> np.ndarray:
    """The cubic convolution kernel with a = -0.5 (Keys 1981)."""
    x = np.abs(x)
    near = 1.5 * x**3 - 2.5 * x**2 + 1.0
    far = -0.5 * x**3 + 2.5 * x**2 - 4.0 * x + 2.0
    return np.where(x <= 1, near, np.where(x <= 2, far, 0.0))
