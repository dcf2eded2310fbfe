"""Image quality metrics, against Keras' VGG19, the papers' formulas and published values."""

import keras
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from srgan_tf.errors import UserError
from srgan_tf.evaluation.benchmark import evaluate
from srgan_tf.evaluation.methods import open_methods
from srgan_tf.evaluation.metrics import (
    BlurEffect,
    Metric,
    Psnr,
    Ssim,
    TopOctave,
    Vgg54,
    open_metrics,
)
from srgan_tf.evaluation.sets import open_sets
from srgan_tf.images import read_photo


def test_vgg54_is_the_distance_of_keras_features_of_the_centre(shared):
    weights = str(shared / "weights" / "vgg19_imagenet_notop.weights.h5")
    rng = np.random.default_rng(0)
    hr, sr = rng.integers(0, 256, (2, 200, 216, 3), dtype=np.uint8)
    metric = Vgg54(weights)
    value = metric(sr, metric.reference(hr), 4)
    vgg = keras.applications.VGG19(include_top=False, weights=weights)
    features = keras.Model(vgg.input, vgg.get_layer("block5_conv4").output)
    preprocess = keras.applications.vgg19.preprocess_input
    a, b = (
        features(preprocess(x[None, 4:196, 12:204].astype(np.float32))).numpy() for x in (hr, sr)
    )
    assert value == pytest.approx(np.mean((a - b) ** 2) / 12.75**2, rel=1e-4)
    assert metric(hr, metric.reference(hr), 4) == 0
    small = hr[:40, :33]
    assert metric(small, metric.reference(small), 4) == 0


def test_missing_vgg_weights_are_named_and_none_skips_the_metric(tmp_path):
    with pytest.raises(UserError, match="--vgg nowhere: no such file"):
        open_metrics("nowhere")
    metrics, notes = open_metrics("none")
    assert [m.name for m in metrics] == ["psnr", "ssim", "blur_effect", "top_octave"]
    assert len(notes) == 1 and notes[0].startswith(
        "LPIPS was not computed: give AlexNet's weights with --lpips FILE"
    )


@pytest.mark.parametrize("metric", [Psnr(), Ssim(), BlurEffect(), TopOctave()])
def test_the_least_side_is_enough(metric: Metric):
    rng = np.random.default_rng(0)
    for scale in (2, 4, 8):
        side = metric.min_side(scale)
        hr, sr = rng.integers(0, 256, (2, side, side + 3, 3), dtype=np.uint8)
        assert np.isfinite(metric(sr, metric.reference(hr), scale))


def test_vgg54_and_lpips_of_the_least_side(shared):
    weights = shared / "weights"
    metrics, _ = open_metrics(
        str(weights / "vgg19_imagenet_notop.weights.h5"), weights / "alexnet_lpips.npz"
    )
    rng = np.random.default_rng(0)
    for metric in metrics[2:4]:
        side = metric.min_side(4)
        hr, sr = rng.integers(0, 256, (2, side, side, 3), dtype=np.uint8)
        assert 0 < metric(sr, metric.reference(hr), 4) < np.inf


def test_the_blur_effect_is_crete_and_others():
    image = np.random.default_rng(0).integers(0, 256, (40, 53, 3), dtype=np.uint8)
    y = (image @ (np.array([65.481, 128.553, 24.966]) / 255) + 16)[4:-4, 4:-4]
    assert BlurEffect()(image, None, 4) == pytest.approx(
        max(blur_along_rows(y), blur_along_rows(y.T)), abs=1e-5
    )


def blur_along_rows(y):
    """Compute the share of Sobel gradients that a box blur along rows removes, by scikit-image."""

    def gradients(values):
        padded = np.pad(values, 1, "symmetric")
        smooth = padded[:-2] + 2 * padded[1:-1] + padded[2:]
        return np.abs(smooth[:, 2:] - smooth[:, :-2])

    padded = np.pad(y, ((0, 0), (5, 5)), "symmetric")
    blurred = np.mean([padded[:, i : i + y.shape[1]] for i in range(11)], axis=0)
    sharp, lost = gradients(y), np.maximum(0, gradients(y) - gradients(blurred))
    inner = np.s_[2:-1, 2:-1]
    return (sharp[inner].sum() - lost[inner].sum()) / sharp[inner].sum()


def test_the_blur_effect_rises_with_blur(shared):
    photo = read_photo(shared / "data" / "benchmarks" / "Set5" / "HR" / "img_003.png")
    blurred = [gaussian_filter(photo, (sigma, sigma, 0)) for sigma in (0, 1, 2, 4)]
    values = [BlurEffect()(image, None, 4) for image in blurred]
    assert values[0] > 0 and values == sorted(values) and values[-1] < 1


def grating(frequency, amplitude):
    """Draw grey diagonal waves, uint8 [72, 104, 3], given their cycles per pixel."""
    y, x = np.mgrid[:72, :104]
    waves = 128 + amplitude * np.sin(2 * np.pi * frequency * (0.6 * x + 0.8 * y))
    return np.repeat(np.rint(waves).astype(np.uint8)[..., None], 3, axis=2)


def top_octave(sr, hr):
    metric = TopOctave()
    return metric(sr, metric.reference(hr), 4)


def test_the_top_octave_is_that_of_the_finest_waves():
    fine, half_as_high = grating(0.4, 100), grating(0.4, 50)
    assert top_octave(fine, fine) == 0
    # An amplitude of a half is a quarter of the power, 6.02 dB.
    assert top_octave(half_as_high, fine) == pytest.approx(-6.02, abs=0.05)
    assert top_octave(grating(0.15, 100), fine) < -30  # an octave below
    flat = np.full((40, 40, 3), 128, np.uint8)
    assert top_octave(flat, flat) == 0


def test_blurring_takes_from_the_top_octave(shared):
    photo = read_photo(shared / "data" / "benchmarks" / "Set5" / "HR" / "img_003.png")
    blurred = [gaussian_filter(photo, (sigma, sigma, 0)) for sigma in (0, 0.5, 1, 2)]
    values = [top_octave(image, photo) for image in blurred]
    assert values == sorted(values, reverse=True) and values[-1] < -10


def test_bicubic_and_nearest_reproduce_the_published_scores(shared, tmp_path, monkeypatch):
    monkeypatch.setenv("SRGAN_TF_CACHE", str(tmp_path))
    sets = open_sets(shared / "data" / "benchmarks", ["Set5"], 4)
    methods, _ = open_methods(["nearest", "bicubic"], 4)
    scores = evaluate(sets, methods, [Psnr(), Ssim()])
    assert scores.mean("Set5", "bicubic", "psnr") == pytest.approx(28.43, abs=0.01)
    assert scores.mean("Set5", "bicubic", "ssim") == pytest.approx(0.8113, abs=5e-4)
    assert scores.mean("Set5", "nearest", "psnr") == pytest.approx(26.26, abs=0.1)
