"""PSNR and SSIM on Y, against closed forms and TensorFlow's SSIM."""

import numpy as np
import pytest
import tensorflow as tf

from srgan_tf.metrics import luma, mean_psnr, psnr_y, ssim_y


def noisy_pair(noise: float, level: float | None = None) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    if level is None:
        a = rng.integers(0, 256, (2, 40, 52, 3)).astype(np.float64)
    else:
        a = np.full((2, 40, 52, 3), level)
    b = np.clip(np.round(a + rng.normal(0, noise, a.shape)), 0, 255)
    return a.astype(np.uint8), b.astype(np.uint8)


@pytest.mark.parametrize(
    ("rgb", "y"),
    [
        ((255, 255, 255), 235),
        ((0, 0, 0), 16),
        ((255, 0, 0), 16 + 65.481),
        ((0, 255, 0), 16 + 128.553),
        ((0, 0, 255), 16 + 24.966),
    ],
)
def test_luma_of_known_colours(rgb, y):
    result = luma(np.array([[rgb]], np.uint8))
    assert result.shape == (1, 1) and result[0, 0] == pytest.approx(y)


@pytest.mark.parametrize("difference", [1, 10, 100])
def test_psnr_of_a_constant_difference(difference):
    a = np.full((1, 20, 20, 3), 50, np.uint8)
    y_difference = difference * 219 / 255  # Y spans 16 to 235
    expected = 20 * np.log10(255 / y_difference)
    assert float(psnr_y(a, a + np.uint8(difference), 4)[0]) == pytest.approx(expected, abs=1e-3)


def test_equal_images_have_infinite_psnr_and_ssim_1():
    a, _ = noisy_pair(0)
    assert np.all(np.isposinf(psnr_y(a, a, 4)))
    np.testing.assert_array_equal(ssim_y(a, a, 4), [1, 1])


def test_psnr_of_noise_is_the_log_of_its_mean_square():
    a, b = noisy_pair(12)
    weights = np.array([65.481, 128.553, 24.966]) / 255
    error = ((a.astype(float) - b) @ weights)[:, 3:-3, 3:-3]
    expected = 10 * np.log10(255**2 / np.mean(error**2, axis=(1, 2)))
    np.testing.assert_allclose(psnr_y(a, b, 3), expected, atol=1e-3)


def test_the_border_does_not_count_and_the_rest_does():
    a, _ = noisy_pair(0)
    framed = a.copy()
    framed[:, :4] = framed[:, -4:] = framed[:, :, :4] = framed[:, :, -4:] = 0
    assert np.all(np.isposinf(psnr_y(a, framed, 4)))
    assert np.all(np.isfinite(psnr_y(a, framed, 3)))
    assert np.all(np.isfinite(psnr_y(a, framed, 0)))
    np.testing.assert_array_equal(ssim_y(a, framed, 4), [1, 1])


@pytest.mark.parametrize("noise", [2, 20, 80])
@pytest.mark.parametrize("level", [None, 5, 128])
def test_ssim_is_tensorflows(noise, level):
    a, b = noisy_pair(noise, level)
    inner = [luma(images)[:, 4:-4, 4:-4, None].astype(np.float32) for images in (a, b)]
    np.testing.assert_allclose(ssim_y(a, b, 4), tf.image.ssim(*inner, 255), atol=3e-4)


@pytest.mark.parametrize("metric", [psnr_y, ssim_y])
def test_any_dtype_and_any_leading_axes(metric):
    a, b = noisy_pair(10)
    both = metric(a, b, 4)
    np.testing.assert_allclose(metric(a.astype(np.float32), b.astype(float), 4), both)
    assert metric(a[1], b[1], 4) == pytest.approx(both[1])


def test_ssim_refuses_images_smaller_than_its_window():
    a, _ = noisy_pair(0)
    assert ssim_y(a[:, :19], a[:, :19], 4).shape == (2,)
    with pytest.raises(ValueError, match="at least 19 pixels"):
        ssim_y(a[:, :18], a[:, :18], 4)


def test_equal_images_do_not_make_a_mean_infinite():
    assert mean_psnr([np.array([30.0]), np.array([32.0])]) == 31.0
    assert mean_psnr([30.0, np.inf]) == 65.0
