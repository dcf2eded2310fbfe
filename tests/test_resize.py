"""The resizing matrix, against Pillow's resampling and by its properties."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from srgan_tf import resize
from srgan_tf.resize import downscale, resize_matrix


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


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", [(40, 61), (40, 61, 2), (40, 61, 4)])
def test_downscale_is_the_matrices_away_from_the_border(dtype, shape, monkeypatch):
    monkeypatch.setattr(resize, "_BAND", 61 * 5)  # 5 rows at a time
    highest = np.iinfo(dtype).max
    pixels = np.random.default_rng(0).integers(0, highest + 1, shape).astype(dtype)
    rows, columns = resize_matrix(40, 27), resize_matrix(61, 44)
    planes = pixels.reshape(40, 61, -1).transpose(2, 0, 1).astype(np.float32)
    expected = np.stack([(columns @ (rows @ plane).T).T for plane in planes], -1)
    expected = np.clip(expected, 0, highest).reshape(27, 44, *shape[2:])
    found = downscale(pixels, 27, 44)
    assert found.dtype == dtype and found.shape == expected.shape
    inner = np.s_[4:-4, 4:-4]
    assert np.abs(found[inner] - expected[inner]).max() <= 0.51 + 1e-5 * highest
