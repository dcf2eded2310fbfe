"""A portable step, run by JAX, against training with TensorFlow."""

import json

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from test_train import finish, start, write_recipe

pytestmark = pytest.mark.slow

pytest.importorskip("jax")

STEPS = 20
RECIPE = {
    "name": "tiny",
    "generator": {"blocks": 1, "filters": 8},
    "data": {
        "hr_crop": 32,
        "batch_size": 2,
        "validation_photos": 1,
        "validation_crop": 64,
        "min_downscale": 0.7,
        "crop_attempts": 2,
        "degradation": {"passes": [{"noise": {}, "blur": {}, "jpeg": {}}]},
    },
    "pretrain": {
        "steps": STEPS,
        "batch_size": 3,
        "clean": 0.5,
        "schedule": "cosine",
        "warmup_steps": 3,
        "ema": 0.9,
    },
    "gan": {
        "steps": STEPS,
        "start_from": None,
        "losses": {"l1": 1.0, "coherence": 0.01, "adversarial": 0.01},
        "jitter": True,
        "ema": 0.9,
        "discriminator": {"architecture": "unet", "filters": 8},
    },
    "validate_every": 10,
    "checkpoint_every": 10,
}


@pytest.mark.parametrize("stage", ["pretrain", "gan"])
def test_the_runner_trains_as_tensorflow_does(stage, train, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    rng = np.random.default_rng(0)
    for index in range(6):
        small = Image.fromarray(rng.integers(0, 256, (12, 14, 3), np.uint8))
        small.resize((90, 80), Image.Resampling.BICUBIC).save(photos / f"{index}.png")
    recipe = write_recipe(tmp_path, RECIPE)
    words = ["--stage", stage, "--config", recipe, "--data", photos]

    assert train(*words, "--out", tmp_path / "keras")[0] == 0
    assert train(*words, "--export-step", tmp_path / "step")[0] == 0
    data = json.loads((tmp_path / "step" / "plan.json").read_text())["data"]
    changed = data["batch_size"], data["degradation"]["clean"]
    assert changed == {"pretrain": (3, 0.5), "gan": (2, 0.1)}[stage]
    ours = tmp_path / "jax"
    module = ["-m", "srgan_tf.training.jax_runner"]
    printed, errors = finish(start(module, tmp_path / "step", "--data", photos, "--out", ours))
    assert "resource_tracker" not in errors
    assert "warning" not in printed  # the photos' pixels are the same
    with np.load(ours / "checkpoints" / f"step-{STEPS}.npz") as arrays:
        found = dict(arrays)
    assert int(found["optimizer/0"]) == STEPS

    reader = tf.train.load_checkpoint(str(tmp_path / "keras" / "checkpoints"))
    names = [n for n in reader.get_variable_to_shape_map() if "VARIABLE_VALUE" in n]
    expected = {
        "/".join(n.split("/")[:2]): reader.get_tensor(n) for n in names if "save_counter" not in n
    }
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        # Rounding decides the signs of Adam's first steps where gradients are zero otherwise, of
        # L1's gradients, and of the coherence's phases: its moments differ more than the weights.
        tolerance = 2e-4 + 5e-2 * np.std(value) if "optimizer" in key else 1e-4
        assert np.quantile(np.abs(found[key] - value), 0.95) < tolerance, key

    code, _, messages = train(*words, "--out", ours, "--resume")
    assert code == 0 and f"Resumed from step {STEPS}" in messages
    assert json.loads((ours / "history.json").read_text()).keys().isdisjoint({"ended", "pid"})
    card = json.loads((ours / "card.json").read_text())
    other = json.loads((tmp_path / "keras" / "card.json").read_text())
    assert card["validation"]["psnr"] == pytest.approx(other["validation"]["psnr"], abs=0.05)
    (session,) = card["sessions"]
    assert session["last_step"] == STEPS
    assert session["curve"][-1]["psnr"] == pytest.approx(card["validation"]["psnr"], abs=0.05)
