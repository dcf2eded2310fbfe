"""`python train.py` as a user runs it: killed, stopped, resumed, on one device and on two."""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import yaml
from PIL import Image

from srgan_tf.models import Discriminator
from srgan_tf.training.history import read_history
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
    "pretrain": {"steps": 120, "learning_rate": 1e-3, "ema": 0.9},
    "gan": {
        "steps": 24,
        "start_from": None,
        "losses": {"mse": 1.0, "adversarial": 1e-3},
        "jitter": True,
        "ema": 0.9,
    },
    "checkpoint_every": 7,
    "validate_every": 10,
    "log_every": 5,
}

# oneDNN chooses kernels by the size of the batch, so that a half of one is rounded differently,
# and adversarial training magnifies it.
COMPARABLE = os.environ | {"TF_ENABLE_ONEDNN_OPTS": "0"}


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(TINY))
    return path


def command(stage, recipe, out, *more, devices=1):
    setup = (
        "import sys, tensorflow as tf;"
        "cpu = tf.config.list_physical_devices('CPU')[0];"
        "logical = [tf.config.LogicalDeviceConfiguration()] * int(sys.argv.pop(1));"
        "tf.config.set_logical_device_configuration(cpu, logical);"
        "from srgan_tf.cli import main; main(['train', *sys.argv[1:]])"
    )
    words = ["--stage", stage, "--config", recipe, "--out", out, *more]
    return [sys.executable, "-c", setup, str(devices), *map(str, words)]


def run(stage, recipe, out, *more, devices=1, env=None):
    return subprocess.run(
        command(stage, recipe, out, *more, devices=devices),
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        timeout=600,
    )


def final_state(out):
    """All tensors of the newest checkpoint: both models, average, both optimizers."""
    reader = tf.train.load_checkpoint(str(out / "checkpoints"))
    return {
        name: reader.get_tensor(name)
        for name in reader.get_variable_to_shape_map()
        if "VARIABLE_VALUE" in name and "save_counter" not in name
    }


def assert_same_weights(out, expected_out):
    """Both models' weights to 1e-4, batch normalization's moving statistics to 1e-3.

    One weight in a hundred may differ: of a gradient that is zero but for rounding, Adam's step
    has the size of the rate and the sign of the rounding.
    """
    found, expected = final_state(out), final_state(expected_out)
    assert found.keys() == expected.keys()
    discriminator = Discriminator()
    discriminator.build((None, 32, 32, 3))
    generator = load_generator(expected_out)
    models = {"discriminator": discriminator, "generator": generator, "average": generator}
    for name, value in expected.items():
        part, index, *_ = name.split("/")
        if part in models:
            trainable = models[part].variables[int(index)].trainable
            atol = 1e-4 if trainable else 1e-3
            assert np.quantile(np.abs(found[name] - value), 0.99) < atol, name


@pytest.mark.parametrize("stage", ["pretrain", "gan"])
def test_killed_and_resumed_run_ends_bit_for_bit_like_an_unbroken_one(stage, recipe, tmp_path):
    whole = run(stage, recipe, tmp_path / "whole")
    assert whole.returncode == 0, whole.stderr

    broken = tmp_path / "broken"
    process = subprocess.Popen(
        command(stage, recipe, broken), cwd=ROOT, stderr=subprocess.DEVNULL, text=True
    )
    deadline = time.monotonic() + 300
    while not (broken / "checkpoints" / "checkpoint").exists():
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    delay = random.uniform(0, 0.6)
    time.sleep(delay)
    process.kill()
    assert process.wait() == -signal.SIGKILL, f"finished before the kill after {delay} s"

    resumed = run(stage, recipe, broken, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert "Resumed from step" in resumed.stderr

    expected, actual = final_state(tmp_path / "whole"), final_state(broken)
    assert expected.keys() == actual.keys()
    parts = {name.split("/")[0] for name in expected}
    of_gan = {"discriminator", "d_optimizer"} if stage == "gan" else set()
    assert parts == {"generator", "average", "optimizer"} | of_gan
    released = load_generator(tmp_path / "whole")
    assert sum(name.startswith("average/") for name in expected) == len(released.variables)
    for value, other in zip(
        released.get_weights(), load_generator(broken).get_weights(), strict=True
    ):
        np.testing.assert_array_equal(value, other)
    for name, value in expected.items():
        np.testing.assert_array_equal(value, actual[name], err_msg=f"{name}, {delay} s")


@pytest.mark.parametrize("stage", ["pretrain", "gan"])
def test_two_devices_give_the_weights_of_one(stage, recipe, tmp_path):
    for devices in (1, 2):
        out = tmp_path / f"{devices}"
        done = run(stage, recipe, out, "--steps", "4", devices=devices, env=COMPARABLE)
        assert done.returncode == 0, done.stderr
    assert_same_weights(tmp_path / "2", tmp_path / "1")


def digest(file):
    return hashlib.sha256(file.read_bytes()).hexdigest()


def test_one_command_carries_out_all_phases_and_goes_on_wherever_it_was_killed(tmp_path):
    gan = TINY["gan"] | {"steps": 8, "start_from": "previous"}
    phased = TINY | {
        "checkpoint_every": 3,
        "pretrain": TINY["pretrain"] | {"steps": 8},
        "gan": [gan, gan | {"steps": 9, "losses": {"l1": 1.0}}],
    }
    recipe = tmp_path / "phased.yaml"
    recipe.write_text(yaml.safe_dump(phased))
    names = ["pretrain", "gan-1", "gan-2"]

    def words(out, *more):
        return [sys.executable, "train.py", "--config", str(recipe), "--out", str(out), *more]

    whole, broken = tmp_path / "whole", tmp_path / "broken"
    done = subprocess.run(words(whole), cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert f"Done: {whole}/gan-2/generator.keras" in done.stdout

    process = subprocess.Popen(words(broken), cwd=ROOT, stderr=subprocess.DEVNULL)
    while not read_history(broken / "gan-1")["sessions"]:
        assert process.poll() is None
        time.sleep(0.02)
    process.kill()
    process.wait()
    resume = [sys.executable, "train.py", "--resume", "--out", str(broken)]
    resumed = subprocess.run(resume, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert resumed.returncode == 0, resumed.stderr
    for name in names:
        for key, value in final_state(whole / name).items():
            np.testing.assert_array_equal(value, final_state(broken / name)[key], err_msg=key)

    card = json.loads((whole / "gan-2" / "card.json").read_text())
    assert card["sha256"] == digest(whole / "gan-2" / "generator.keras")
    assert [p["phase"] for p in (*card["parents"], card)] == names
    for name, parent in zip(names, card["parents"], strict=False):
        assert parent["sha256"] == digest(whole / name / "generator.keras")
        assert parent["data"]["fingerprint"] == card["data"]["fingerprint"]
        (session,) = parent["sessions"]
        assert session["device"] == "1 × CPU" and session["last_step"] == parent["steps"] == 8
    killed, rest = json.loads((broken / "gan-1" / "card.json").read_text())["sessions"]
    assert killed["first_step"] == 0 and killed["last_step"] == rest["first_step"]

    # A phase by itself starts from the one before it.
    alone = [*words(whole / "gan-1-again"), "--stage", "gan-1", "--steps", "1"]
    refused = subprocess.run(alone, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert refused.returncode == 2
    assert "runs/tiny/pretrain: no such weights" in refused.stderr


def test_sigterm_keeps_the_step_and_resume_finishes_the_run(recipe, tmp_path):
    out = tmp_path / "run"
    process = subprocess.Popen(
        command("pretrain", recipe, out, "--steps", "100000"),
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not list((out / "checkpoints").glob("step-[1-9]*.index")):
        assert process.poll() is None
        time.sleep(0.05)
    process.terminate()
    _, messages = process.communicate(timeout=60)
    assert process.returncode == 130, messages
    assert "--resume" in messages
    step = int(final_state(out)["optimizer/0/.ATTRIBUTES/VARIABLE_VALUE"])

    again = run("pretrain", recipe, out)
    assert again.returncode == 2 and "--resume" in again.stderr

    resumed = run("pretrain", recipe, out, "--resume", "--steps", str(step + 3))
    assert resumed.returncode == 0, resumed.stderr
    assert f"Resumed from step {step}" in resumed.stderr

    card = json.loads((out / "card.json").read_text())
    assert card["steps"] == step + 3
    assert card["validation"]["psnr"] > 10
    assert yaml.safe_load((out / "config.yaml").read_text())["name"] == "tiny"
    assert load_generator(out).blocks == 1
    with Image.open(out / "validation.png") as picture:
        assert picture.size == (3 * 32, 32)
    assert list((out / "logs").glob("events*"))


def test_a_run_that_is_stopped_while_a_batch_is_being_made_ends(recipe, tmp_path):
    slow_batches = (
        "import sys, time; from srgan_tf.data import pipeline; real = pipeline.load_batches;"
        "pipeline.load_batches = lambda *a: (time.sleep(2) or pair for pair in real(*a));"
        "from srgan_tf.cli import main; main(['train', *sys.argv[1:]])"
    )
    words = ["--stage", "pretrain", "--config", recipe, "--out", tmp_path, "--steps", "1000"]
    process = subprocess.Popen(
        [sys.executable, "-c", slow_batches, *map(str, words), "--set", "checkpoint_every=1"],
        cwd=ROOT,
        stderr=subprocess.DEVNULL,
    )
    try:
        while not list((tmp_path / "checkpoints").glob("step-[1-9]*.index")):
            assert process.poll() is None
            time.sleep(0.05)
        process.terminate()
        assert process.wait(60) == 130
    finally:
        process.kill()


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good_state(recipe, tmp_path):
    out = tmp_path / "run"
    diverged = run("pretrain", recipe, out, "--set", "pretrain.learning_rate=1e18")
    assert diverged.returncode == 1, diverged.stderr
    assert "not finite" in diverged.stderr and "Traceback" not in diverged.stderr
    assert all(np.isfinite(value).all() for value in final_state(out).values())


def test_wrong_requests_exit_with_2_and_name_the_key(recipe, tmp_path):
    for words, message in (
        (["--set", "pretrain.learning_rat=1"], "did you mean pretrain.learning_rate"),
        (["--data", str(tmp_path / "nowhere")], "nowhere"),
        (["--set", "pretrain.start_from=srresnet-msee"], "no such weights"),
        (["--steps", "0"], "pretrain.steps"),
    ):
        wrong = run("pretrain", recipe, tmp_path / "run", *words)
        assert wrong.returncode == 2, wrong.stderr
        assert message in wrong.stderr and "Traceback" not in wrong.stderr
    assert not (tmp_path / "run").exists()
