"""The measures of results, against Keras' VGG19 and the benchmarks' published figures."""

import keras
import numpy as np
import pytest

from srgan_tf.errors import RequestError
from srgan_tf.evaluation.benchmark import evaluate
from srgan_tf.evaluation.measures import Fidelity, Vgg54, open_measures
from srgan_tf.evaluation.methods import open_methods
from srgan_tf.evaluation.sets import open_sets


def test_vgg54_is_the_distance_of_keras_features_of_the_centre(shared):
    weights = str(shared / "weights" / "vgg19_imagenet_notop.weights.h5")
    rng = np.random.default_rng(0)
    hr, sr = rng.integers(0, 256, (2, 200, 216, 3), dtype=np.uint8)
    measure = Vgg54(weights)
    value = measure(sr, measure.reference(hr), 4)["vgg54"]
    vgg = keras.applications.VGG19(include_top=False, weights=weights)
    features = keras.Model(vgg.input, vgg.get_layer("block5_conv4").output)
    preprocess = keras.applications.vgg19.preprocess_input
    a, b = (
        features(preprocess(x[None, 4:196, 12:204].astype(np.float32))).numpy() for x in (hr, sr)
    )
    assert value == pytest.approx(np.mean((a - b) ** 2) / 12.75**2, rel=1e-4)
    assert measure(hr, measure.reference(hr), 4)["vgg54"] == 0
    small = hr[:40, :33]
    assert measure(small, measure.reference(small), 4)["vgg54"] == 0


def test_missing_vgg_weights_are_named_and_none_is_no_measure(tmp_path):
    with pytest.raises(RequestError, match="--vgg nowhere: no such file"):
        open_measures("nowhere")
    measures, notes = open_measures("none")
    assert [m.names[0] for m in measures if isinstance(m, Fidelity)] == ["psnr"]
    assert not any(isinstance(m, Vgg54) for m in measures)
    assert notes == []


def test_bicubic_and_nearest_reproduce_the_published_figures(shared, tmp_path, monkeypatch):
    monkeypatch.setenv("SRGAN_TF_CACHE", str(tmp_path))
    sets = open_sets(shared / "data" / "benchmarks", ["Set5"], 4)
    methods, _ = open_methods(["nearest", "bicubic"], 4)
    scores = evaluate(sets, methods, [Fidelity()])
    assert scores.mean("Set5", "bicubic", "psnr") == pytest.approx(28.43, abs=0.01)
    assert scores.mean("Set5", "bicubic", "ssim") == pytest.approx(0.8113, abs=5e-4)
    assert scores.mean("Set5", "nearest", "psnr") == pytest.approx(26.26, abs=0.1)
