"""Parts of the portable step that need no JAX; tests/e2e/test_portable_step.py trains with it."""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from filelock import FileLock, Timeout
from PIL import Image

from srgan_tf.config import read_config
from srgan_tf.errors import UserError
from srgan_tf.recipes import find_recipe
from srgan_tf.training import jax_runner
from srgan_tf.training.portable import _compress_values, write_portable_step
from srgan_tf.training.run import LOCK_FILE


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


def test_a_changed_photo_is_decoded_again(cache, tmp_path):
    photo = tmp_path / "a.png"
    Image.new("RGB", (8, 8), "red").save(photo)
    before = jax_runner.open_photos(tmp_path, ["a.png"])
    Image.new("RGB", (8, 8), "blue").save(photo)
    os.utime(photo, ns=(0, 1))  # the clock of the file system may be coarse
    after = jax_runner.open_photos(tmp_path, ["a.png"])
    assert after[0][0, 0].tolist() == [0, 0, 255]
    assert after.fingerprint != before.fingerprint


def test_a_damaged_photo_is_named(cache, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:4000])
    with pytest.raises(UserError, match=r"a\.png: can't be read \(.*truncated.*\); replace it"):
        jax_runner.open_photos(tmp_path, ["a.png"])


class FakeTraining:
    """Two steps on batches that are not used."""

    def __init__(self, folder):
        self.plan = {
            "config": {
                "seed": 0,
                "name": "fake",
                "generator": {"scale": 4},
                "pretrain": {"steps": 3},
                "validate_every": 1,
                "checkpoint_every": 1,
            },
            "data": {"batch_size": 1},
            "stage": "pretrain",
            "phase": "pretrain",
            "place": 0,
            "batch_seed": 0,
            "parents": [],
            "step": {"logs": ["loss"]},
            "fingerprint": "",
            "names": [],
            "photos": [],
            "held_out": [],
        }
        self.config = jax_runner.namespace(self.plan["config"])
        self.section = self.config.pretrain
        self.data = jax_runner.namespace(self.plan["data"])
        self.device = argparse.Namespace(device_kind="none")
        self.step = 0

    def state(self):
        return {"optimizer/0": np.int64(self.step)}

    def update(self, lr, hr):
        self.step += 1
        return [np.nan if self.step > lr else 0.0]


@pytest.fixture
def train(monkeypatch, tmp_path):
    """Run the runner without JAX and photos; return what happened to the batches.

    The loss of the step after number `lr` is not finite.
    """

    def run(out, lr=9, after=None, start_from=None):
        events = []

        def load_batches(*_):
            try:
                while True:
                    events.append("batch")
                    yield lr, None
            finally:
                events.append("closed")

        class Store:
            fingerprint, open = "", None

            def subset(self, indices):
                return self

        monkeypatch.setattr(jax_runner, "Training", FakeTraining)
        monkeypatch.setattr(jax_runner, "open_photos", lambda *_: Store())
        monkeypatch.setattr(jax_runner, "validation_pairs", lambda *_: [])
        monkeypatch.setattr(jax_runner, "validation_psnr", lambda *_: 20.0)
        monkeypatch.setattr(jax_runner, "load_batches", load_batches)
        monkeypatch.setattr(jax_runner.signal, "signal", lambda *_: None)
        monkeypatch.setattr(jax_runner.os, "_exit", lambda code: events.append("exit"))
        arguments = argparse.Namespace(
            step=tmp_path,
            data=tmp_path,
            out=out,
            minutes=None,
            average_only=False,
            after=after,
            start_from=start_from,
        )
        try:
            jax_runner.run(arguments)
        except SystemExit as error:
            events.append(str(error))
        return events

    return run


def test_a_run_ends_without_leaving_processes(train, tmp_path):
    events = train(tmp_path / "run")
    assert events == ["batch", "batch", "batch", "closed"]  # no exit with an open pool
    assert json.loads((tmp_path / "run" / "history.json").read_text())["ended"]
    *events, error = train(tmp_path / "diverged", lr=0)
    assert events == ["batch", "closed"] and "loss is not finite" in error


def test_a_state_that_is_not_finite_is_deleted(train, tmp_path):
    for good, left in ((1, []), (2, ["step-1.npz"])):
        out = tmp_path / f"{good}"
        *_, error = train(out, lr=good)
        assert f"step {good + 1}: loss is not finite" in error
        assert ("step-1.npz" in error) == bool(left)
        assert [path.name for path in (out / "checkpoints").iterdir()] == left


@pytest.mark.parametrize("name", ["step-6.npz", "step-6.index"])
def test_a_folder_with_checkpoints_is_refused(train, tmp_path, name):
    old = tmp_path / "run" / "checkpoints" / name
    old.parent.mkdir(parents=True)
    old.touch()
    with pytest.raises(UserError, match=r"run: contains a run; choose another --out"):
        train(tmp_path / "run")
    assert [path.name for path in old.parent.iterdir()] == [name]


@pytest.mark.parametrize("file", ["run", "run/checkpoints"])
def test_a_folder_that_cannot_be_created_is_refused_before_training(
    train, tmp_path, file, monkeypatch
):
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).touch()
    monkeypatch.setattr(FakeTraining, "update", None)
    with pytest.raises(UserError, match=rf"{file}: can't be written to"):
        train(tmp_path / "run")


def test_an_export_to_a_folder_that_cannot_be_created_is_refused_before_decoding(tmp_path):
    (tmp_path / "file").touch()
    overrides = ["precision=float32", f"data.source={tmp_path / 'none'}"]
    config = read_config(find_recipe(Path("quickstart")), overrides)
    with pytest.raises(UserError, match=r"file: can't be written to"):
        write_portable_step(config, config.phases()[0], tmp_path / "file")


@pytest.mark.parametrize("option", ["after", "start_from"])
def test_another_run_that_tensorflow_trained_is_refused(train, tmp_path, option):
    other = tmp_path / "other"
    other.mkdir()
    (other / "history.json").write_text(json.dumps({"phase": "pretrain", "sessions": []}))
    with pytest.raises(UserError, match=r"other: trained by srgan train.*PHASE\.start_from="):
        train(tmp_path / "run", **{option: other})
    assert not (tmp_path / "run").exists()


def test_another_run_without_a_checkpoint_is_refused(train, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "history.json").write_text(json.dumps({"ended": True}))
    with pytest.raises(UserError, match=r"other: has ended, but contains no checkpoint"):
        train(tmp_path / "run", start_from=other)


def test_another_run_that_failed_is_not_waited_for(train, tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    other = tmp_path / "other"
    *_, error = train(other, lr=0)
    assert "loss is not finite" in error
    history = json.loads((other / "history.json").read_text())
    assert history == {"ended": False, "pid": os.getpid()}
    (other / "history.json").write_text(json.dumps(history | {"pid": ended.pid}))
    with pytest.raises(UserError, match=r"other: this run failed or was killed"):
        train(tmp_path / "run", after=other)


def test_another_runs_average_is_for_the_generator_and_its_average(tmp_path):
    checkpoint = tmp_path / "step-1.npz"
    training = object.__new__(jax_runner.Training)
    training._put, training.device = (lambda value, device: value), None
    training._values = {name: np.zeros(2) for name in ("average/0", "generator/0", "optimizer/0")}
    np.savez(checkpoint, **{"average/0": np.ones(2), "optimizer/0": np.ones(2)})
    training.start_from(checkpoint)
    assert {key: value.max() for key, value in training._values.items()} == {
        "average/0": 1,
        "generator/0": 1,
        "optimizer/0": 0,
    }
    for wrong in ({"average/0": np.ones(3)}, {"average/0": np.ones(2), "average/1": np.ones(2)}):
        np.savez(checkpoint, **wrong)
        with pytest.raises(UserError, match="not of the generator of this step"):
            training.start_from(checkpoint)


def test_a_folder_that_a_training_uses_is_refused(train, tmp_path):
    (tmp_path / "run").mkdir()
    with (
        FileLock(tmp_path / "run" / LOCK_FILE),
        pytest.raises(UserError, match=r"run: another training uses this folder"),
    ):
        train(tmp_path / "run")
    with (
        jax_runner.prepare_folder(tmp_path / "run"),
        pytest.raises(Timeout),
        FileLock(tmp_path / "run" / LOCK_FILE, blocking=False),
    ):
        pass
    assert train(tmp_path / "run")[-1] == "closed"


def test_photos_of_a_tfds_data_set_are_refused_before_decoding(tmp_path):
    overrides = ["precision=float32", "data.source=tfds:div2k/bicubic_x4"]
    config = read_config(find_recipe(Path("quickstart")), overrides)
    with pytest.raises(UserError, match=r"data\.source: tfds:.*reads a folder of photos"):
        write_portable_step(config, config.phases()[0], tmp_path / "step")
    assert not (tmp_path / "step").exists()
