"""Measure images per second of `srgan upscale-batch`, 1 and 2 processes, and `srgan upscale`.

    python benchmarks/upscale_batch.py [--model NAME|FILE] [--out FILE]

It measures wall time of whole commands on one small photo, 200 small ones (64×64) and 5 large ones
(1024×1024), crops of scikit-image's photos. Then it kills the job on the 200 (by SIGKILL, which its
workers notice) after half of the results, runs the same command again, and prints how many files
the second one enlarges and the total time.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import skimage.data

from srgan_tf.files import write_json
from srgan_tf.images import write_image

PROGRAM = [sys.executable, "-c", "from srgan_tf.cli import main; main()"]
COMMANDS: dict[str, list[str]] = {
    "upscale": ["upscale"],
    "upscale-batch, 1 worker": ["upscale-batch", "--workers", "1"],
    "upscale-batch, 2 workers": ["upscale-batch", "--workers", "2"],
}
SETS = {"1 small": (1, 64), "200 small": (200, 64), "5 large": (5, 1024)}


def write_photos(folder: Path, number: int, side: int) -> None:
    """Write square crops of scikit-image's photos as PNG."""
    rng = np.random.default_rng(0)
    photos = [skimage.data.astronaut(), skimage.data.coffee(), skimage.data.chelsea()]
    for index in range(number):
        photo = photos[index % len(photos)]
        margins = [(0, max(0, side - length)) for length in photo.shape[:2]]
        photo = np.pad(photo, [*margins, (0, 0)], "symmetric")
        top, left = (rng.integers(length - side + 1) for length in photo.shape[:2])
        write_image(folder / f"{index:03}.png", photo[top : top + side, left : left + side])


def start(command: list[str], photos: Path, out: Path, model: str) -> subprocess.Popen:
    """Start a command of `srgan` that enlarges a folder."""
    words = [*PROGRAM, *command, str(photos), "-o", str(out), "--model", model]
    return subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, encoding="utf-8"
    )


def finish(process: subprocess.Popen) -> str:
    """Wait for a command and return its output; exits if it fails."""
    printed, _ = process.communicate()
    if process.returncode:
        sys.exit(f"exit code {process.returncode}: {process.args!r}")
    return printed


def seconds_of(command: list[str], photos: Path, out: Path, model: str) -> float:
    """Measure the wall time of a command, in seconds."""
    shutil.rmtree(out, ignore_errors=True)
    started = time.perf_counter()
    finish(start(command, photos, out, model))
    seconds = time.perf_counter() - started
    expected, made = len(list(photos.iterdir())), len(list(out.glob("*.png")))
    if made != expected:
        sys.exit(f"{made} results of {expected} photos: {command}")
    return seconds


def kill_and_restart(command: list[str], photos: Path, out: Path, model: str) -> dict:
    """Kill a job after half of the results, run it again, and return the times of both."""
    shutil.rmtree(out, ignore_errors=True)
    number = len(list(photos.iterdir()))
    started = time.perf_counter()
    process = start(command, photos, out, model)
    while len(list(out.glob("*.png"))) < number // 2:
        if process.poll() is not None:
            sys.exit("the job ended before it was killed")
        time.sleep(0.01)
    process.kill()
    process.wait()
    first = time.perf_counter() - started
    time.sleep(5)  # until the worker processes have noticed
    there = len(list(out.glob("*.png")))
    started = time.perf_counter()
    printed = finish(start(command, photos, out, model))
    second = time.perf_counter() - started
    match = re.match(r"(\d+) files enlarged .* (\d+) existed already", printed)
    if match is None:
        sys.exit(f"unexpected: {printed}")
    return {
        "results_when_killed": there,
        "enlarged_by_the_second": int(match[1]),
        "skipped_by_the_second": int(match[2]),
        "seconds_of_the_first": round(first, 1),
        "seconds_of_the_second": round(second, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="srgan-mobile")
    parser.add_argument("--out", type=Path, help="write the results to this JSON file")
    arguments = parser.parse_args()

    results: dict = {
        "command": f"python benchmarks/upscale_batch.py --model {arguments.model}",
        "cores": len(os.sched_getaffinity(0)),
        "versions": {
            name: importlib.metadata.version(name) for name in ("ai-edge-litert", "apache-beam")
        },
    }
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "out"
        for name, (number, side) in SETS.items():
            photos = Path(scratch) / name
            write_photos(photos, number, side)
            results[name] = {}
            for label, command in COMMANDS.items():
                seconds = seconds_of(command, photos, out, arguments.model)
                figures = {"seconds": round(seconds, 1), "images_s": round(number / seconds, 2)}
                results[name][label] = figures
                print(f"{name:10} {label:25} {seconds:6.1f} s  {number / seconds:6.2f} images/s")
        killed = kill_and_restart(
            COMMANDS["upscale-batch, 2 workers"],
            photos.with_name("200 small"),
            out,
            arguments.model,
        )
        results["killed at half of the 200 small, 2 workers"] = killed
        print(json.dumps(killed))
    if arguments.out:
        write_json(arguments.out, results)


if __name__ == "__main__":
    main()
