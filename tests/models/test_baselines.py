"""SRCNN, ESPCN and DRCN: sizes, initialization, and the interface of generators."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from test_models import parameters

from srgan_tf.config import PretrainConfig
from srgan_tf.inference.keras import KerasEngine
from srgan_tf.losses import ContentLosses
from srgan_tf.models import DRCN, ESPCN, SRCNN
from srgan_tf.models.baselines import bicubic_interpolate, unit_luma
from srgan_tf.resize import bicubic_matrix, bicubic_upscale
from srgan_tf.training.trainers import LumaPretrainer

LR = np.random.default_rng(0).uniform(0.2, 0.8, (2, 14, 9, 3)).astype(np.float32)
SMALL = {
    "srcnn": lambda **kwargs: SRCNN(**kwargs),
    "espcn": lambda **kwargs: ESPCN(**kwargs),
    "drcn": lambda **kwargs: DRCN(filters=6, recursions=3, **kwargs),
    "drcn in blocks": lambda **kwargs: DRCN(filters=6, recursions=2, block=2, **kwargs),
}


def build(name, **kwargs):
    keras.utils.set_random_seed(0)
    model = SMALL[name](**kwargs)
    model.build()
    return model


def randomize(model):
    rng = np.random.default_rng(1)
    model.set_weights([w + rng.normal(0, 0.05, w.shape) for w in model.get_weights()])
    return model


def test_interpolation_is_matlabs_without_its_rounding():
    rows, columns = bicubic_matrix(14, 56), bicubic_matrix(9, 36)
    expected = np.stack([rows @ LR[0, ..., c] @ columns.T for c in range(3)], axis=-1)
    np.testing.assert_allclose(bicubic_interpolate(tf.constant(LR), 4)[0], expected, atol=1e-6)
    rounded = bicubic_upscale(LR * 255.0, 4)
    assert np.max(np.abs(255.0 * bicubic_interpolate(tf.constant(LR), 4) - rounded)) < 1.2


@pytest.mark.parametrize("scale", [2, 4, 8])
@pytest.mark.parametrize("name", ["srcnn", "drcn", "drcn in blocks"])
def test_a_new_one_computes_bicubic_upscaling(name, scale):
    sr = build(name, scale=scale)(LR)
    np.testing.assert_allclose((sr + 1) / 2, bicubic_interpolate(LR, scale), atol=1e-5)


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_a_new_espcn_is_nearly_bilinear_in_luma(scale):
    y = unit_luma((build("espcn", scale=scale)(LR) + 1) / 2)
    size = (14 * scale, 9 * scale)
    bilinear = tf.image.resize(unit_luma(LR), size, "bilinear")
    difference = (y - bilinear)[:, scale:-scale, scale:-scale]
    assert np.max(np.abs(difference)) < 0.005


def test_the_papers_sizes():
    srcnn = 9 * 9 * 64 + 64 + 5 * 5 * 64 * 32 + 32 + 5 * 5 * 32 + 1
    espcn = 5 * 5 * 64 + 64 + 3 * 3 * 64 * 32 + 32 + 3 * 3 * 32 * 16 + 16
    wide = 3 * 3 * 256 * 256 + 256
    drcn = (3 * 3 * 256 + 256) + wide + wide + wide + (3 * 3 * 256 + 1) + 16
    for model, expected in ((SRCNN(), srcnn), (ESPCN(), espcn), (DRCN(), drcn)):
        model.build()
        assert parameters(model) == expected
    assert (model.filters, model.recursions, model.block) == (256, 16, 1)


@pytest.mark.parametrize("name", SMALL)
def test_only_luma_is_touched(name):
    sr = (randomize(build(name))(LR) + 1) / 2
    bicubic = bicubic_interpolate(LR, 4)
    change = (sr - bicubic).numpy()
    assert np.max(np.abs(change)) > 0.01
    np.testing.assert_allclose(change[..., 0], change[..., 1], atol=1e-5)
    np.testing.assert_allclose(change[..., 0], change[..., 2], atol=1e-5)


@pytest.mark.parametrize("name", SMALL)
def test_the_radius_is_the_receptive_fields(name):
    model = randomize(build(name))
    radius = model.features_radius + model.upsample_radius
    size = 2 * radius + 3
    middle = radius + 1
    lr = tf.Variable(tf.random.stateless_uniform([1, size, size, 3], (1, 2)))
    with tf.GradientTape() as tape:
        sr = model(lr)
        pixel = sr[:, 4 * middle : 4 * middle + 4, 4 * middle : 4 * middle + 4]
        total = tf.reduce_sum(pixel**2)
    reached = np.abs(tape.gradient(total, lr).numpy()).sum(axis=(0, 3)) > 0
    assert not reached[0].any() and not reached[-1].any() and not reached[:, 0].any()
    assert reached[2].any()  # a row may be lost as the radius is rounded up to LR pixels


@pytest.mark.parametrize("name", SMALL)
def test_the_engine_computes_the_same_for_any_size(name):
    model = randomize(build(name))
    engine = KerasEngine(model)
    for crop in (LR[:1], LR[:1, :5, :7]):
        np.testing.assert_allclose(2 * engine(crop) - 1, model(crop), atol=1e-5)


@pytest.mark.parametrize("name", SMALL)
def test_saving_and_loading_changes_nothing(name, tmp_path):
    model = randomize(build(name, scale=2))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert type(loaded) is type(model) and loaded.get_config() == model.get_config()
    np.testing.assert_array_equal(loaded(LR), model(LR))


@pytest.mark.parametrize("name", SMALL)
def test_mixed_precision_keeps_the_bicubic_part_exact(name):
    model = build(name, dtype="mixed_bfloat16")
    exact = build(name)
    model.set_weights(exact.get_weights())
    assert np.max(np.abs(model(LR) - exact(LR))) < 0.02


def test_drcns_result_is_the_learned_average_of_its_recursions():
    model = randomize(build("drcn"))
    result, *recursions = model.predictions(unit_luma(LR))
    assert len(recursions) == 3
    weights = model.averaging.numpy()
    expected = sum(w * r for w, r in zip(weights, recursions, strict=True))
    np.testing.assert_allclose(result, expected, atol=1e-5)


@pytest.mark.parametrize("arguments", [{"scale": 3}, {"scale": 2, "block": 4}])
def test_bad_arguments_are_refused(arguments):
    with pytest.raises(ValueError, match="scale"):
        DRCN(**arguments)


@pytest.mark.parametrize(("name", "rate"), [("espcn", 2e-4), ("drcn", 1e-3)])
def test_training_lowers_the_luma_loss_and_supervises_recursions(name, rate):
    generator, average = build(name), build(name)
    config = PretrainConfig(steps=30, learning_rate=rate)
    trainer = LumaPretrainer(generator, average, ContentLosses(["mse"], 4), config)
    hr = tf.constant(np.kron(LR * 2 - 1, np.ones((1, 4, 4, 1))), tf.float32)
    lr = tf.constant(LR)
    y, *recursions = generator.predictions(unit_luma(lr))
    target = unit_luma((hr + 1) / 2)
    # In the first step only the recursions' losses count, if there are any.
    predicted = recursions or [y]
    expected = np.mean([np.mean((target - p) ** 2) for p in predicted])
    logs = trainer.train_step((lr, hr))
    assert float(logs["mse"]) == pytest.approx(expected, rel=1e-4)
    for _ in range(29):
        logs = trainer.train_step((lr, hr))
    assert float(logs["mse"]) < 0.98 * expected
