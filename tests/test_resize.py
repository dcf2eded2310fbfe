"""The resizing matrix, against Pillow's resampling and by its properties."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from srgan_tf.resize import resize_matrix


@pytest.mark.parametrize("new_size", [20, 51, 63, 64, 81, 102, 256])
def test_equals_pillow_away_from_the_border(new_size):
    line = np.random.default_rng(0).random((1, 64), np.float32)
    expected = np.asarray(Image.fromarray(line).resize((new_size, 1), Image.Resampling.BICUBIC))[0]
    actual = resize_matrix(64, new_size) @ line[0]
    border = int(np.ceil(2 * max(1, new_size / 64)))  # Pillow cuts the kernel there
    np.testing.assert_allclose(actual[border:-border], expected[border:-border], atol=1e-5)


@given(size=st.integers(1, 60), new_size=st.integers(1, 60))
def test_rows_sum_to_one_and_mirror(size, new_size):
    matrix = resize_matrix(size, new_size).toarray()
    assert matrix.shape == (new_size, size)
    np.testing.assert_allclose(matrix.sum(axis=1), 1.0, atol=1e-5)
    np.testing.assert_allclose(matrix[::-1, ::-1], matrix, atol=1e-5)
