"""Resizing, against MATLAB's algorithm written out, and Pillow."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from srgan_tf import resize
from srgan_tf.images import read_photo
from srgan_tf.metrics import psnr_y, ssim_y
from srgan_tf.resize import (
    bicubic_downscale,
    bicubic_matrix,
    bicubic_upscale,
    downscale,
    nearest_upscale,
    resize_matrix,
)


@pytest.mark.parametrize("batch", [(), (2,)])
def test_nearest_neighbour_repeats_each_pixel(batch):
    images = np.random.default_rng(0).integers(0, 2**16, (*batch, 3, 5, 3), np.uint16)
    enlarged = nearest_upscale(images, 3)
    assert enlarged.dtype == np.uint16
    np.testing.assert_array_equal(enlarged, np.kron(images, np.ones((3, 3, 1))))


@pytest.mark.parametrize("new_size", [20, 51, 63, 64, 81, 102, 256])
def test_equals_pillow_away_from_the_border(new_size):
    line = np.random.default_rng(0).random((1, 64), np.float32)
    expected = np.asarray(Image.fromarray(line).resize((new_size, 1), Image.Resampling.BICUBIC))[0]
    actual = bicubic_matrix(64, new_size) @ line[0]
    border = int(np.ceil(2 * max(1, new_size / 64)))  # Pillow truncates the kernel there
    np.testing.assert_allclose(actual[border:-border], expected[border:-border], atol=1e-5)


@pytest.mark.parametrize(
    ("name", "filter_of_pillow"),
    [
        ("bicubic", Image.Resampling.BICUBIC),
        ("bilinear", Image.Resampling.BILINEAR),
        ("box", Image.Resampling.BOX),
        ("lanczos", Image.Resampling.LANCZOS),
    ],
)
@pytest.mark.parametrize("sizes", [(64, 16), (64, 23)])
def test_each_kernel_is_pillows_away_from_the_border(name, filter_of_pillow, sizes):
    line = np.random.default_rng(0).uniform(0, 255, sizes[0]).astype(np.float32)
    image = Image.fromarray(np.repeat(line[None], 4, 0))
    expected = np.asarray(image.resize((sizes[1], 4), filter_of_pillow))[0]
    found = resize_matrix(*sizes, name) @ line
    np.testing.assert_allclose(found[3:-3], expected[3:-3], atol=2.0 if name == "bicubic" else 1e-3)


@given(size=st.integers(1, 60), new_size=st.integers(1, 60))
def test_rows_sum_to_one_and_mirror(size, new_size):
    matrix = bicubic_matrix(size, new_size)
    assert matrix.shape == (new_size, size)
    np.testing.assert_allclose(matrix.sum(axis=1), 1.0, atol=1e-5)
    np.testing.assert_allclose(matrix[::-1, ::-1], matrix, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", [(40, 61), (40, 61, 2), (40, 61, 4)])
def test_downscale_is_the_matrices_away_from_the_border(dtype, shape, monkeypatch):
    monkeypatch.setattr(resize, "_BAND", 61 * 5)  # 5 rows at a time
    highest = np.iinfo(dtype).max
    pixels = np.random.default_rng(0).integers(0, highest + 1, shape).astype(dtype)
    rows, columns = bicubic_matrix(40, 27), bicubic_matrix(61, 44)
    planes = pixels.reshape(40, 61, -1).transpose(2, 0, 1).astype(np.float32)
    expected = np.stack([(columns @ (rows @ plane).T).T for plane in planes], -1)
    expected = np.clip(expected, 0, highest).reshape(27, 44, *shape[2:])
    found = np.empty((27, 44, *shape[2:]), dtype)
    downscale(pixels, found)
    inner = np.s_[4:-4, 4:-4]
    assert np.abs(found[inner] - expected[inner]).max() <= 0.51 + 1e-5 * highest


def cubic(x: float) -> float:
    x = abs(x)
    if x <= 1:
        return 1.5 * x**3 - 2.5 * x**2 + 1
    if x <= 2:
        return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return 0.0


def imresize_line(line: list[float], new_size: int) -> list[int]:
    """Resize one axis as MATLAB's imresize, 1-based as in its documentation, in float64."""
    scale = new_size / len(line)
    shrink = min(scale, 1.0)
    result = []
    for x in range(1, new_size + 1):
        u = x / scale + 0.5 * (1 - 1 / scale)
        total = weights = 0.0
        for tap in range(math.floor(u - 2 / shrink) - 1, math.ceil(u + 2 / shrink) + 2):
            weight = shrink * cubic(shrink * (u - tap))
            total += weight * line[min(max(tap, 1), len(line)) - 1]
            weights += weight
        result.append(min(max(math.floor(total / weights + 0.5), 0), 255))
    return result


def imresize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    columns = [imresize_line([float(v) for v in column], height) for column in image.T]
    return np.array([imresize_line(list(row), width) for row in np.array(columns).T])


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_equals_the_algorithm_written_out(scale):
    image = np.random.default_rng(scale).integers(0, 256, (40, 24), np.uint8)
    down = bicubic_downscale(image[..., None], scale)[..., 0]
    np.testing.assert_array_equal(down, imresize(image, 40 // scale, 24 // scale))
    small = image[:10, :6]
    up = bicubic_upscale(small[..., None], scale)[..., 0]
    np.testing.assert_array_equal(up, imresize(small, 10 * scale, 6 * scale))


@pytest.mark.parametrize("resized", [bicubic_downscale, bicubic_upscale])
@pytest.mark.parametrize("scale", [2, 4, 8])
@pytest.mark.parametrize("level", [0, 100, 255])
def test_keeps_constants(resized, scale, level):
    image = np.full((2, 16, 32, 3), level, np.uint8)
    assert np.all(resized(image, scale) == level)


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_keeps_linear_ramps_in_the_interior(scale):
    ramp = np.arange(0, 160, 2.0)
    image = np.broadcast_to(ramp[:, None, None], (80, scale, 1))
    centres = ramp.reshape(-1, scale).mean(axis=1)
    down = bicubic_downscale(image, scale)[:, 0, 0]
    np.testing.assert_allclose(down[2:-2], centres[2:-2], atol=0.5)  # rounded to grey levels


@given(st.integers(1, 9), st.integers(1, 9), st.sampled_from([2, 4, 8]))
@settings(max_examples=25)
def test_results_are_uint8_of_the_right_shape(height, width, scale):
    image = np.random.default_rng(height).integers(0, 2, (1, height, width, 3)) * 255.0
    for resized, factor in (
        (bicubic_upscale(image, scale), scale),
        (bicubic_downscale(np.repeat(np.repeat(image, scale, 1), scale, 2), scale), 1),
    ):
        assert resized.dtype == np.uint8
        assert resized.shape == (1, factor * height, factor * width, 3)


def test_each_image_and_channel_is_resized_by_itself():
    images = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), np.uint8)
    together = bicubic_downscale(images, 4)
    for n in range(2):
        for c in range(3):
            alone = bicubic_downscale(images[n, ..., c : c + 1], 4)[..., 0]
            np.testing.assert_array_equal(together[n, ..., c], alone)


@pytest.mark.parametrize("shape", [(18, 16, 3), (16, 18, 3)])
def test_refuses_sides_that_are_no_multiples_of_the_scale(shape):
    with pytest.raises(ValueError, match="not a multiple of the scale 4"):
        bicubic_downscale(np.zeros(shape, np.uint8), 4)


@pytest.mark.parametrize(
    ("name", "count", "psnr", "ssim"),
    [
        ("Set5", 5, 28.43, 0.8113),
        ("Set14", 14, 26.09, 0.7049),
        ("BSD100", 100, 25.96, 0.6682),
    ],
)
def test_published_pairs_and_bicubic_scores(shared, name, count, psnr, ssim):
    folder = shared / "data" / "benchmarks" / name
    scores, within_one, pixels = [], 0, 0
    for path in sorted((folder / "HR").iterdir()):
        hr = read_photo(path)
        hr = hr[: hr.shape[0] // 4 * 4, : hr.shape[1] // 4 * 4]
        published = read_photo(folder / "LRx4" / path.name).astype(float)
        difference = np.abs(bicubic_downscale(hr, 4).astype(float) - published)
        within_one += np.count_nonzero(difference <= 1)
        pixels += difference.size
        up = bicubic_upscale(published, 4)
        scores.append((psnr_y(hr, up, border=4), ssim_y(hr, up, border=4)))
    assert len(scores) == count
    assert within_one >= 0.999 * pixels
    mean = np.mean(scores, axis=0)
    assert mean[0] == pytest.approx(psnr, abs=0.01)
    assert mean[1] == pytest.approx(ssim, abs=0.0005)
