"""`python train.py` as several workers: real processes on this machine."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from test_train import COMPARABLE, TINY, assert_same_weights

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
RECIPE = TINY | {
    "data": TINY["data"] | {"batch_size": 16},
    "pretrain": TINY["pretrain"] | {"steps": 20},
    # Rounding differs between one worker and two, and adversarial training magnifies it.
    "gan": TINY["gan"] | {"steps": 20, "learning_rate": 1e-5},
}


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(RECIPE))
    return path


def command(stage, recipe, out, *more):
    words = ["--stage", stage, "--config", recipe, "--out", out, *more]
    return [sys.executable, "train.py", *map(str, words)]


def run(*words):
    return subprocess.run(
        command(*words), cwd=ROOT, env=COMPARABLE, capture_output=True, text=True, timeout=600
    )


@pytest.mark.parametrize("stage", ["pretrain", "gan"])
def test_two_workers_give_the_weights_of_one(stage, recipe, tmp_path):
    for workers in (1, 2):
        done = run(stage, recipe, tmp_path / f"{workers}", "--workers", workers)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("Done:") == 1
    assert_same_weights(tmp_path / "2", tmp_path / "1")


def workers_of(process):
    found = subprocess.run(
        ["ps", "--ppid", str(process.pid), "-o", "pid="], capture_output=True, text=True
    )
    return [int(pid) for pid in found.stdout.split()]


@pytest.mark.parametrize("which", [0, 1])
def test_a_lost_worker_stops_the_run_which_then_resumes(which, recipe, tmp_path):
    out = tmp_path / "run"
    process = subprocess.Popen(
        command("pretrain", recipe, out, "--workers", "2", "--steps", "100000"),
        cwd=ROOT,
        env=COMPARABLE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 300
    while not (out / "checkpoints" / "step-14.index").exists():
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    os.kill(workers_of(process)[which], signal.SIGKILL)
    _, messages = process.communicate(timeout=90)  # more than SECONDS_TO_NOTICE
    assert process.returncode not in (0, 130)
    assert "another worker is gone" in messages and "Traceback" not in messages

    reached = max(int(path.stem.split("-")[1]) for path in (out / "checkpoints").glob("*.index"))
    resumed = run("pretrain", recipe, out, "--workers", 2, "--resume", "--steps", reached + 6)
    assert resumed.returncode == 0, resumed.stderr
    assert f"Resumed from step {reached}" in resumed.stderr
    unbroken = run("pretrain", recipe, tmp_path / "unbroken", "--steps", reached + 6)
    assert unbroken.returncode == 0, unbroken.stderr
    assert_same_weights(out, tmp_path / "unbroken")
