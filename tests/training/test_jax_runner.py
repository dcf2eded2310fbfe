"""Parts of the portable step that need no JAX; tests/e2e/test_portable_step.py trains with it."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from srgan_tf.errors import UserError
from srgan_tf.training import jax_runner
from srgan_tf.training.portable import _compress_values


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SRGAN_TF_CACHE", str(tmp_path / "cache"))


def test_the_runner_reads_the_values_that_were_written(tmp_path):
    rng = np.random.default_rng(0)
    draw = {"seed": [1, 2], "limit": 0.5}
    levels = rng.normal(size=256).astype(np.float32)
    values = {
        "generator/0": rng.normal(size=(3, 3)).astype(np.float32),
        "generator/1": np.zeros(4, np.float32),
        "constant/0": rng.choice(levels, (40, 50)),  # as VGG19's 8-bit weights
        "discriminator/0": jax_runner.draw_uniform(draw, (5, 7)),
        "optimizer/0": np.int64(3),
    }
    values["average/0"] = values["generator/0"]
    variables = {key: tf.Variable(value) for key, value in values.items()}
    draws = {id(variables["discriminator/0"].handle): draw}
    arrays, descriptions = _compress_values(variables, draws)
    assert set(arrays) == {"generator/0", "constant/0:levels", "constant/0:codes", "optimizer/0"}
    np.savez(tmp_path / jax_runner.STATE_FILE, **arrays)
    found = jax_runner.read_state(tmp_path, {"variables": descriptions})
    assert found.keys() == values.keys()
    for key, value in values.items():
        assert found[key].dtype == value.dtype
        np.testing.assert_array_equal(found[key], value)


def test_a_missing_photo_is_named(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    with pytest.raises(UserError, match=r"1 of the 2 photos .* missing, such as b\.png"):
        jax_runner.open_photos(tmp_path, ["a.png", "b.png"])


def test_held_out_photos_that_are_all_too_small_are_refused(cache, tmp_path):
    Image.new("RGB", (40, 60)).save(tmp_path / "a.png")
    photos = jax_runner.open_photos(tmp_path, ["a.png"])
    config = jax_runner.namespace(
        {
            "data": {"validation_crop": 32, "degradation": None},
            "generator": {"scale": 4},
            "seed": 0,
        }
    )
    ((lr, hr),) = jax_runner.validation_pairs(photos, config)
    assert (lr.shape, hr.shape) == ((8, 8, 3), (32, 32, 3))
    config.data.validation_crop = 64
    with pytest.raises(UserError, match=r"at least 64 pixels.*data\.validation_crop"):
        jax_runner.validation_pairs(photos, config)


def test_a_folder_without_a_step_is_refused(tmp_path):
    pytest.importorskip("jax")
    with pytest.raises(UserError, match=r"no plan\.json"):
        jax_runner.Training(tmp_path)
