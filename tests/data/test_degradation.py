"""Degradation of LR: operations against independent ones, and the distribution of all."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from srgan_tf.config import (
    BlurConfig,
    CompressionConfig,
    DegradationConfig,
    DegradationPass,
    NoiseConfig,
)
from srgan_tf.data.degradation import degrade
from srgan_tf.resize import bicubic_downscale

PHOTO = np.asarray(
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 20, 3), np.uint8)).resize(
        (80, 64), Image.Resampling.BICUBIC
    )
)
ALWAYS = {"probability": 1.0}
BICUBIC = ("bicubic",)


def degraded(seed=0, hr=PHOTO, clean=0.0, earlier=(), **last):
    last.setdefault("filters", BICUBIC)
    config = DegradationConfig(clean=clean, passes=(*earlier, DegradationPass(**last)))
    return degrade(hr, 4, config, np.random.default_rng(seed))


def test_a_pass_without_operations_is_bicubic_downscaling():
    # Rounded once, whereas MATLAB rounds after the rows too.
    assert np.max(np.abs(degraded().astype(int) - bicubic_downscale(PHOTO, 4))) <= 1


def test_clean_crops_are_matlabs():
    noise = NoiseConfig(**ALWAYS, sigma=(50, 50))
    np.testing.assert_array_equal(degraded(clean=1.0, noise=noise), bicubic_downscale(PHOTO, 4))
    clean = [
        np.array_equal(degraded(seed, clean=0.3, noise=noise), bicubic_downscale(PHOTO, 4))
        for seed in range(400)
    ]
    assert 0.23 < np.mean(clean) < 0.37


def test_a_gaussian_blur_is_scipys():
    blur = BlurConfig(**ALWAYS, sigma=(0.5, 0.5), anisotropy=1)
    found = degraded(blur=blur, filters=("box",)).astype(float)
    blurred = ndimage.gaussian_filter(PHOTO.astype(float), (2, 2, 0), truncate=8)
    expected = blurred.reshape(16, 4, 20, 4, 3).mean((1, 3))
    np.testing.assert_allclose(found[3:-3, 3:-3], expected[3:-3, 3:-3], atol=0.6)


def test_a_sinc_filter_keeps_what_is_flat_and_rings_at_edges():
    blur = BlurConfig(**ALWAYS, sinc=1)
    flat = np.full((64, 64, 3), 77, np.uint8)
    np.testing.assert_array_equal(degraded(hr=flat, blur=blur), flat[:16, :16])
    edge = flat.copy()
    edge[:, 32:] = 177
    rings = [degraded(seed, hr=edge, blur=blur, filters=("box",)) for seed in range(8)]
    assert min(ring.min() for ring in rings) < 74 and max(ring.max() for ring in rings) > 180


@pytest.mark.parametrize("grey", [0, 1])
def test_noise_has_the_deviation_and_the_colours_asked_for(grey):
    flat = np.full((512, 512, 3), 128, np.uint8)
    noise = NoiseConfig(**ALWAYS, sigma=(9, 9), grey=grey)
    residual = degraded(hr=flat, noise=noise).astype(float) - 128
    assert np.std(residual) == pytest.approx(9, rel=0.03)
    correlation = np.corrcoef(residual[..., 0].ravel(), residual[..., 1].ravel())[0, 1]
    assert correlation == pytest.approx(grey, abs=0.05)


def test_poisson_noise_grows_with_the_root_of_the_brightness():
    deviations = []
    for level in (32, 128):
        flat = np.full((512, 512, 3), level, np.uint8)
        noise = NoiseConfig(**ALWAYS, sigma=(6, 6), grey=0, poisson=1)
        deviations.append(np.std(degraded(hr=flat, noise=noise).astype(float)))
    assert deviations[1] == pytest.approx(6, rel=0.03)
    assert deviations[0] == pytest.approx(3, rel=0.05)


@pytest.mark.parametrize("subsampled", [0, 1])
def test_jpeg_is_pillows_with_its_grid_at_any_of_16_by_16_places(subsampled):
    lr = degraded()
    jpeg = CompressionConfig(**ALWAYS, quality=(40, 40), subsampled=subsampled)
    found = {degraded(seed, jpeg=jpeg).tobytes() for seed in range(40)}
    assert len(found) > 25  # of 256 positions
    at_zero = io.BytesIO()
    Image.fromarray(lr).save(at_zero, "jpeg", quality=40, subsampling=2 * subsampled)
    expected = np.asarray(Image.open(at_zero))
    distance = np.std(expected.astype(float) - lr)
    for seed in range(4):
        error = np.std(degraded(seed, jpeg=jpeg).astype(float) - lr)
        assert error == pytest.approx(distance, rel=0.35)
    every = {degraded(seed, jpeg=jpeg).tobytes() for seed in range(1500)}
    assert expected.tobytes() in every


def test_webp_comes_before_jpeg():
    webp = CompressionConfig(**ALWAYS, quality=(30, 30))
    with_both = degraded(3, webp=webp, jpeg=CompressionConfig(**ALWAYS, quality=(1, 1)))
    np.testing.assert_array_equal(with_both, degraded(3, webp=webp))
    assert np.any(with_both != degraded(3))


def test_an_earlier_pass_happens_as_often_as_asked_and_loses_detail():
    earlier = DegradationPass(probability=0.4, size=(0.4, 0.5), filters=BICUBIC)
    plain = degraded()
    changed = [np.any(degraded(seed, earlier=[earlier]) != plain) for seed in range(300)]
    assert 0.32 < np.mean(changed) < 0.48
    always = earlier.model_copy(update={"probability": 1.0, "size": (0.25, 0.25)})
    np.testing.assert_allclose(degraded(earlier=[always]).astype(int), plain.astype(int), atol=1)


@given(st.integers(0, 2**32 - 1), st.sampled_from([(32, 32), (64, 48), (96, 96)]))
def test_equal_seeds_give_equal_lr(seed, shape):
    everything = {
        "filters": ("bicubic", "bilinear", "box", "lanczos"),
        "blur": BlurConfig(sinc=0.3),
        "noise": NoiseConfig(sigma=(0, 60), poisson=0.5),
        "webp": CompressionConfig(probability=0.2),
        "jpeg": CompressionConfig(),
    }
    config = DegradationConfig(
        passes=(DegradationPass(probability=0.5, **everything), DegradationPass(**everything))
    )
    hr = np.random.default_rng(1).integers(0, 256, (*shape, 3), np.uint8)
    found, again = (degrade(hr, 4, config, np.random.default_rng(seed)) for _ in range(2))
    assert found.shape == (shape[0] // 4, shape[1] // 4, 3) and found.dtype == np.uint8
    np.testing.assert_array_equal(found, again)


def test_an_earlier_pass_leaves_at_least_one_pixel():
    tiny = DegradationPass(size=(0.001, 0.001), filters=BICUBIC)
    assert degraded(earlier=[tiny]).shape == degraded().shape


@pytest.mark.parametrize(
    ("section", "values"),
    [
        (DegradationPass, {"size": (0.0, 0.5)}),
        (DegradationPass, {"size": (-1.0, -0.5)}),
        (NoiseConfig, {"sigma": (-1.0, 5.0)}),
        (NoiseConfig, {"sigma": (0.0, 1e38)}),
        (BlurConfig, {"sigma": (-1.0, 1.0)}),
    ],
)
def test_sizes_are_positive_and_deviations_not_negative(section, values):
    with pytest.raises(ValueError, match=r"greater than|less than"):
        section(**values)
