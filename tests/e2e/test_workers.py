"""`python train.py` with several workers, as processes on this machine."""

import contextlib
import json
import os
import signal
import subprocess

import pytest
from test_train import (
    COMPARABLE,
    TINY,
    assert_same_weights,
    finish,
    start,
    wait_for_checkpoint,
    write_recipe,
)

from srgan_tf.cli.train import _free_port

pytestmark = pytest.mark.slow

RECIPE = TINY | {
    "data": TINY["data"] | {"batch_size": 16},
    "pretrain": TINY["pretrain"] | {"steps": 8},
    # Rounding differs between one worker and two, and adversarial training magnifies it.
    "gan": TINY["gan"] | {"steps": 8, "learning_rate": 1e-5},
}


@pytest.fixture
def recipe(tmp_path):
    return write_recipe(tmp_path, RECIPE)


def start_run(recipe, out, *more):
    return start(["train.py"], "--config", recipe, "--out", out, *more, env=COMPARABLE)


def test_two_workers_give_the_weights_of_one(recipe, tmp_path):
    for workers in (1, 2):
        out, _ = finish(start_run(recipe, tmp_path / f"{workers}", "--workers", workers))
        assert out.count("Done:") == 1
    for stage in ("pretrain", "gan"):
        assert_same_weights(tmp_path / "2" / stage, tmp_path / "1" / stage)


def test_workers_with_different_recipes_are_told_so(recipe, tmp_path):
    with contextlib.ExitStack() as sockets:
        addresses = [f"localhost:{_free_port(sockets)}" for _ in range(2)]
    processes = []
    for index, steps in enumerate((8, 9)):
        task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        environment = COMPARABLE | {"TF_CONFIG": json.dumps(task)}
        words = ["--config", recipe, "--stage", "pretrain", "--out", tmp_path / "run"]
        words += ["--set", "precision=auto", "--steps", steps]
        processes.append(start(["train.py"], *words, env=environment))
    for process in processes:
        _, err = finish(process, 2)
        assert "the workers have different recipes (--config, --set)" in err
    assert not (tmp_path / "run").exists()


def test_a_wrong_request_ends_all_workers_at_once(recipe, tmp_path):
    index = tmp_path / "run" / "checkpoints" / "step-1.index"
    index.parent.mkdir(parents=True)
    index.touch()
    words = ["--stage", "pretrain", "--workers", "2"]
    process = start_run(recipe, tmp_path / "run", *words)
    _, err = process.communicate(timeout=45)  # less than SECONDS_TO_NOTICE
    assert process.returncode == 2 and "contains a run" in err


def workers_of(process):
    found = subprocess.run(
        ["ps", "--ppid", str(process.pid), "-o", "pid="], capture_output=True, text=True
    )
    return [int(pid) for pid in found.stdout.split()]


@pytest.mark.parametrize("lost", [0, 1])
def test_a_lost_worker_stops_the_run_which_then_resumes(lost, recipe, tmp_path):
    out = tmp_path / "run"
    words = [recipe, out, "--stage", "pretrain", "--workers", "2"]
    process = start_run(*words, "--steps", "100000")
    wait_for_checkpoint(process, out)
    os.kill(workers_of(process)[lost], signal.SIGKILL)
    _, messages = process.communicate(timeout=90)  # more than SECONDS_TO_NOTICE
    assert process.returncode not in (0, 130)
    assert "another worker is gone" in messages and "Traceback" not in messages

    reached = max(int(path.stem.split("-")[1]) for path in (out / "checkpoints").glob("*.index"))
    steps = ["--steps", reached + 6]
    _, messages = finish(start_run(*words, "--resume", *steps))
    assert f"Resumed from step {reached}" in messages
    if lost == 1:
        unbroken = tmp_path / "unbroken"
        finish(start_run(recipe, unbroken, "--stage", "pretrain", *steps))
        assert_same_weights(out, unbroken)
