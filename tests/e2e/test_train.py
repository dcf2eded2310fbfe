"""`python train.py` as a user runs it: killed, stopped, resumed, on one device and on two."""

import argparse
import hashlib
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import yaml
from PIL import Image

from srgan_tf.cli.train import _choose_recipe
from srgan_tf.models import Discriminator
from srgan_tf.weights import load_generator

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
TINY = {
    "name": "tiny",
    "deterministic": True,
    "generator": {"blocks": 1, "filters": 8},
    "data": {
        "source": "samples",
        "hr_crop": 32,
        "batch_size": 4,
        "validation_photos": 1,
        "validation_crop": 32,
    },
    "pretrain": {"steps": 60, "learning_rate": 1e-3, "ema": 0.9},
    "gan": {
        "steps": 40,
        "start_from": None,
        "losses": {"mse": 1.0, "adversarial": 1e-3},
        "jitter": True,
        "ema": 0.9,
        "discriminator": {"filters": 8},
    },
    "checkpoint_every": 7,
    "validate_every": 10,
    "log_every": 5,
}

# oneDNN chooses kernels by the batch size, so that half a batch is rounded differently, and
# adversarial training magnifies the difference.
COMPARABLE = os.environ | {"TF_ENABLE_ONEDNN_OPTS": "0"}
DEVICES = """
import sys, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
logical = [tf.config.LogicalDeviceConfiguration()] * int(sys.argv.pop(1))
tf.config.set_logical_device_configuration(cpu, logical)
from srgan_tf.cli import main
main()
"""
SLOW_BATCHES = """
import time
from srgan_tf.data import pipeline
load = pipeline.load_batches
pipeline.load_batches = lambda *words: (time.sleep(2) or pair for pair in load(*words))
from srgan_tf.cli import main
main()
"""


def write_recipe(folder, recipe):
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return path


@pytest.fixture
def recipe(tmp_path):
    return write_recipe(tmp_path, TINY)


def start(program, *words, env=None):
    return subprocess.Popen(
        [sys.executable, *program, *map(str, words)],
        cwd=ROOT,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process, code=0):
    out, err = process.communicate(timeout=600)
    assert process.returncode == code, err
    return out, err


def wait_for_checkpoint(process, folder):
    """Wait for a checkpoint of a later step than 0."""
    deadline = time.monotonic() + 300
    while not list((folder / "checkpoints").glob("step-[1-9]*.index")):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)


def final_state(out):
    """Return all tensors of the newest checkpoint: models, moving average, optimizers."""
    reader = tf.train.load_checkpoint(str(out / "checkpoints"))
    return {
        name: reader.get_tensor(name)
        for name in reader.get_variable_to_shape_map()
        if "VARIABLE_VALUE" in name and "save_counter" not in name
    }


def assert_same_weights(out, expected_out):
    """Compare weights to 1e-4, and batch normalization's moving statistics to 1e-3.

    One weight in a hundred may differ: if a gradient is zero except for rounding, Adam's step has
    the size of the learning rate and the sign of the rounding.
    """
    found, expected = final_state(out), final_state(expected_out)
    assert found.keys() == expected.keys()
    discriminator = Discriminator(filters=8)
    discriminator.build((None, 32, 32, 3))
    generator = load_generator(expected_out)
    models = {"discriminator": discriminator, "generator": generator, "average": generator}
    for name, value in expected.items():
        part, index, *_ = name.split("/")
        if part in models:
            trainable = models[part].variables[int(index)].trainable
            atol = 1e-4 if trainable else 1e-3
            assert np.quantile(np.abs(found[name] - value), 0.99) < atol, name


def digest(file):
    return hashlib.sha256(file.read_bytes()).hexdigest()


def test_a_run_killed_in_two_phases_ends_bit_for_bit_like_an_unbroken_one(tmp_path):
    gan = TINY["gan"] | {"start_from": "previous"}
    phases = {"gan": [gan, gan | {"steps": 9, "losses": {"l1": 1.0}}], "checkpoint_every": 3}
    recipe = write_recipe(tmp_path, TINY | phases)
    names = ["pretrain", "gan-1", "gan-2"]
    steps = [60, 40, 9]
    unbroken, killed = tmp_path / "unbroken", tmp_path / "killed"
    out, _ = finish(start(["train.py"], "--config", recipe, "--out", unbroken))
    assert f"Done: {unbroken}/gan-2/generator.keras" in out

    words = ["--config", recipe, "--out", killed]
    delay = random.uniform(0, 0.1)
    for name in names[:2]:
        process = start(["train.py"], *words)
        wait_for_checkpoint(process, killed / name)
        time.sleep(delay)
        assert process.poll() is None, f"{name} ended before the kill after {delay} s"
        process.kill()
        process.communicate()
        words = ["--resume", "--out", killed]
    _, err = finish(start(["train.py"], *words))
    assert "Resumed from step" in err

    for name, last in zip(names, steps, strict=True):
        expected, found = final_state(unbroken / name), final_state(killed / name)
        assert expected.keys() == found.keys()
        parts = {key.split("/")[0] for key in expected}
        gan_parts = {"discriminator", "d_optimizer"} if name != "pretrain" else set()
        assert parts == {"generator", "average", "optimizer"} | gan_parts
        released = load_generator(unbroken / name).get_weights()
        assert sum(key.startswith("average/") for key in expected) == len(released)
        for value, other in zip(released, load_generator(killed / name).get_weights(), strict=True):
            np.testing.assert_array_equal(value, other)
        for key, value in expected.items():
            np.testing.assert_array_equal(value, found[key], err_msg=f"{name}, {key}, {delay} s")
        card = json.loads((killed / name / "card.json").read_text())
        sessions = card["sessions"]
        assert sessions[0]["first_step"] == 0 and sessions[-1]["last_step"] == card["steps"] == last
        assert len(sessions) == 1 or sessions[0]["last_step"] <= sessions[1]["first_step"]

    card = json.loads((unbroken / "gan-2" / "card.json").read_text())
    assert card["sha256"] == digest(unbroken / "gan-2" / "generator.keras")
    assert [p["phase"] for p in (*card["parents"], card)] == names
    for name, parent in zip(names, card["parents"], strict=False):
        assert parent["sha256"] == digest(unbroken / name / "generator.keras")
        assert parent["data"]["fingerprint"] == card["data"]["fingerprint"]
        (session,) = parent["sessions"]
        assert session["device"] == "1 × CPU" and session["last_step"] == parent["steps"]


def test_two_devices_give_the_weights_of_one(recipe, tmp_path):
    words = ["train", "--config", recipe, "--set", "gan.batch_size=3", "--out", tmp_path / "3"]
    _, err = finish(start(["-c", DEVICES, "2"], *words), 2)
    assert "gan.batch_size (3) must be a multiple of the number of devices (2)" in err
    assert not (tmp_path / "3").exists()  # not after the first phase
    for devices in (1, 2):
        words = ["train", "--config", recipe, "--steps", "4", "--out", tmp_path / f"{devices}"]
        finish(start(["-c", DEVICES, str(devices)], *words, env=COMPARABLE))
    for stage in ("pretrain", "gan"):
        assert_same_weights(tmp_path / "2" / stage, tmp_path / "1" / stage)


def test_sigterm_while_a_batch_is_made_keeps_the_step_and_resume_finishes_the_run(
    recipe, train, tmp_path
):
    out = tmp_path / "run"
    words = ["--stage", "pretrain", "--config", recipe, "--out", out]
    slow = ["train", *words, "--steps", "100000", "--set", "checkpoint_every=1"]
    process = start(["-c", SLOW_BATCHES], *slow)
    wait_for_checkpoint(process, out)
    code, _, err = train(*words, "--resume")
    assert code == 2 and f"{out}: another training uses this folder" in err
    process.terminate()
    _, err = finish(process, 130)
    assert "--resume" in err
    step = int(final_state(out)["optimizer/0/.ATTRIBUTES/VARIABLE_VALUE"])

    code, _, err = train(*words)
    assert code == 2 and "--resume" in err

    _, err = finish(start(["train.py"], *words, "--resume", "--steps", step + 3))
    assert f"Resumed from step {step}" in err
    card = json.loads((out / "card.json").read_text())
    assert card["steps"] == step + 3
    assert card["validation"]["psnr"] > 10
    assert yaml.safe_load((out / "config.yaml").read_text())["name"] == "tiny"
    assert load_generator(out).blocks == 1
    with Image.open(out / "validation.png") as picture:
        assert picture.size == (3 * 32, 32)
    assert list((out / "logs").glob("events*"))

    for stale in (json.dumps({**card, "steps": 1}), "{"):  # of an earlier end, and damaged
        (out / "card.json").write_text(stale)
        code, _, err = train(*words, "--resume", "--steps", step + 3)
        assert code == 0, err
        assert json.loads((out / "card.json").read_text())["steps"] == step + 3


def test_a_stopped_stage_is_continued_by_its_message(train, tmp_path):
    phase = {**TINY["gan"], "steps": 100_000, "start_from": None}
    path = write_recipe(tmp_path, {**TINY, "gan": [phase, phase], "checkpoint_every": 1})
    out = tmp_path / "run"
    process = start(["train.py"], "--config", path, "--stage", "gan", "--out", out)
    wait_for_checkpoint(process, out / "gan-1")
    process.terminate()
    _, err = finish(process, 130)
    assert f"continue with --resume --stage gan --out {out}" in err

    words = ["--config", path, "--stage", "gan-1", "--resume", "--out", out]  # not out/gan-1
    code, _, err = train(*words, "--set", "gan.discriminator.filters=4")
    assert code == 2 and f"{out}/gan-1: the run's gan-1.discriminator is" in err
    code, _, err = train(*words, "--set", "data.hr_crop=48")
    assert code == 2 and f"{out}/gan-1: the run's data.hr_crop is 32, not 48" in err


def test_a_run_of_one_phase_is_not_continued_as_another(recipe, train, tmp_path):
    out = tmp_path / "run"
    words = ["--config", recipe, "--out", out]
    assert train(*words, "--stage", "pretrain", "--steps", 1)[0] == 0
    before = (out / "generator.keras").read_bytes()
    code, _, err = train(*words, "--stage", "gan", "--resume")
    assert (
        code == 2 and f"{out}: a run of pretrain, not of gan; choose that phase by --stage" in err
    )
    path = write_recipe(tmp_path, {**TINY, "gan": [TINY["gan"]] * 2})
    code, _, err = train("--config", path, "--out", out, "--stage", "gan", "--resume")
    assert code == 2 and f"{out}: the run of one phase" in err
    assert (out / "generator.keras").read_bytes() == before and not (out / "gan-1").exists()


def test_resume_continues_the_newest_of_two_recipes_in_one_folder(tmp_path):
    arguments = argparse.Namespace(resume=True, out=tmp_path, stage=None, config=None)
    for phase in ("gan", "pretrain-1"):
        (tmp_path / phase).mkdir()
        (tmp_path / phase / "config.yaml").touch()
    for newest in ("gan", "pretrain-1"):
        for phase in ("gan", "pretrain-1"):
            os.utime(tmp_path / phase / "config.yaml", (0, 20 if phase == newest else 10))
        assert _choose_recipe(arguments) == (tmp_path / newest / "config.yaml", None)


def test_resume_with_other_settings_is_recorded(recipe, train, tmp_path):
    out = tmp_path / "run"
    words = ["--stage", "pretrain", "--config", recipe, "--out", out]
    assert train(*words, "--steps", 1)[0] == 0
    code, _, err = train(
        *words, "--resume", "--steps", 2, "--set", "seed=3", "--set", "pretrain.losses={l1: 1}"
    )
    assert code == 0 and f"warning: {out}: other pretrain.losses, seed than before" in err
    card = json.loads((out / "card.json").read_text())
    assert card["changes"] == [{"step": 1, "before": {"pretrain.losses": {"mse": 1.0}, "seed": 0}}]
    assert card["recipe"]["seed"] == 3
    _, _, err = train("--resume", "--out", out, "--steps", 3)
    assert "than before" not in err
    assert len(json.loads((out / "card.json").read_text())["changes"]) == 1


def test_resume_with_another_generator_or_only_an_average(recipe, train, tmp_path):
    out = tmp_path / "run"
    words = ["--stage", "pretrain", "--config", recipe, "--out", out]
    assert train(*words, "--steps", 1)[0] == 0
    code, _, err = train(*words, "--resume", "--set", "generator.filters=16")
    assert code == 2 and "the run's generator is" in err and "'filters': 16" in err
    code, _, err = train(*words, "--resume", "--set", "precision=mixed_float16")
    assert code == 2 and "the run's precision is float32, not mixed_float16" in err

    code, _, err = train(*words, "--resume", "--steps", 1, "--set", "data.batch_size=2")
    assert code == 0 and f"{out}: already finished" in err
    assert yaml.safe_load((out / "config.yaml").read_text())["data"]["batch_size"] == 4

    (out / "generator.keras").unlink()
    assert train(*words, "--resume", "--steps", 1)[0] == 0
    assert load_generator(out / "generator.keras").blocks == 1

    state = final_state(out)
    names = {name.partition("/.")[0]: name for name in state}
    kept = {key: state[name] for key, name in names.items() if key.startswith("average/")}
    for file in (out / "checkpoints").iterdir():
        file.unlink()
    step = {"optimizer/0": state[names["optimizer/0"]]}
    np.savez(out / "checkpoints" / "step-1.npz", **kept, **step)
    code, _, err = train(*words, "--resume", "--steps", 2)
    assert code == 2 and "--steps 1, but not continued" in err


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good_state(
    recipe, train, tmp_path
):
    out = tmp_path / "run"
    words = ["--stage", "pretrain", "--config", recipe, "--out", out]
    diverging = ["--set", "pretrain.learning_rate=1e18", "--set", "deterministic=false"]
    code, _, err = train(*words, *diverging)
    assert code == 1, err
    assert "not finite" in err and "Traceback" not in err
    assert all(np.isfinite(value).all() for value in final_state(out).values())


@pytest.mark.parametrize(
    ("stage", "words", "message"),
    [
        ("pretrain", ["--set", "pretrain.learning_rat=1"], "did you mean pretrain.learning_rate"),
        ("pretrain", ["--data", "nowhere"], "nowhere: no such folder"),
        ("pretrain", ["--set", "pretrain.start_from=srresnet-msee"], "did you mean srresnet-mse?"),
        ("pretrain", ["--steps", "0"], "pretrain.steps"),
        ("pretrain", ["--out", "/dev/null/run"], "/dev/null/run: can't be written to"),
        ("gan", ["--set", "gan.start_from=previous"], "runs/tiny/pretrain: no such weights"),
    ],
)
def test_wrong_requests_exit_with_2_and_name_the_key(
    recipe, train, tmp_path, monkeypatch, stage, words, message
):
    monkeypatch.chdir(tmp_path)
    code, _, err = train("--stage", stage, "--config", recipe, "--out", "run", *words)
    assert code == 2 and message in err and "Traceback" not in err
    assert not (tmp_path / "run").exists()


def test_missing_vgg_weights_are_named_before_the_first_phase(recipe, train, tmp_path):
    options = ["gan.losses={vgg54: 1.0, adversarial: 1.0e-3}", "vgg.weights=vgg.h5"]
    words = [word for option in options for word in ("--set", option)]
    code, _, err = train("--config", recipe, "--out", tmp_path / "run", *words)
    assert code == 2 and "vgg.weights: vgg.h5: no such file" in err
    assert not (tmp_path / "run").exists()
