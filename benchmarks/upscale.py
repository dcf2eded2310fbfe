"""Measure how fast photos are enlarged, and in how much memory.

    python benchmarks/upscale.py [--model NAME] [--baseline CHECKOUT] [--out FILE]

1. In one process, in turns: 120×120 to 480×480, from pixels to pixels, by srgan-tf's default engine
   (LiteRT), by Keras, and, if installed (`pip install -e '.[benchmark]'`), by OpenVINO with the
   same model file and by a plain PyTorch SRResNet, channels-last. All compute in float32.
2. As processes: `srgan upscale` of JPEGs from start to exit, and its peak memory. With --baseline,
   the checkout of another commit, both enlarge the 256×256 photo in turns.

`least` is the shortest time, which other work on the machine affects least.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
from timing import median_ratio, seconds_in_turns

from srgan_tf import Upscaler
from srgan_tf.files import write_json
from srgan_tf.images import to_levels, write_image
from srgan_tf.weights import DEFAULT_MODEL, find_litert

SIDE = 120
OURS = "srgan-tf"
HERE = Path(__file__).resolve().parent.parent
# By name: number of photos, (height, width), and number of rounds.
PHOTOS = {
    "256×256": (1, (256, 256), 5),
    "200 of 64×64": (200, (64, 64), 3),
    "1 megapixel": (1, (1000, 1000), 3),
    "12 megapixels": (1, (3000, 4000), 1),
}
# Prints its peak memory in KB; the value that a parent process gets may be the parent's own.
_COMMAND = """
import re
from srgan_tf.cli import main
try:
    main()
finally:
    print(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
"""


def keras(model: str, photo: np.ndarray) -> Callable[[], np.ndarray]:
    """Return a function that enlarges a photo as with `--engine tensorflow`."""
    return partial(Upscaler(model, engine="tensorflow").upscale, photo)


def openvino(model: Path, photo: np.ndarray) -> Callable[[], np.ndarray]:
    """Return a function that enlarges a photo, uint8, by OpenVINO with a .tflite model."""
    import openvino

    core = openvino.Core()
    fixed = core.read_model(model)
    fixed.reshape([1, *photo.shape])  # faster than a dynamic size
    # By default it uses bfloat16 if the CPU supports it.
    options = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    compiled = core.compile_model(fixed, "CPU", options)
    return lambda: to_levels(compiled(photo[None] / np.float32(255))[0][0])


def plain_pytorch(photo: np.ndarray) -> Callable[[], np.ndarray]:
    """Return a function that enlarges a photo, uint8, by PyTorch."""
    import torch
    from torch_srresnet import srresnet

    model = srresnet().eval()
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def enlarge() -> np.ndarray:
        with torch.inference_mode():
            lr = torch.from_numpy(photo).permute(2, 0, 1)[None].float() / 255
            sr = model(lr.to(memory_format=torch.channels_last))
            return ((sr + 1) * 127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()

    return enlarge


def runtimes(model: str) -> dict:
    """Enlarge 120×120 to 480×480 with each runtime that is installed, and print the times."""
    path = find_litert(model)
    assert path is not None
    photo = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    upscaler = Upscaler(model, engine="litert")
    contestants: dict[str, Callable] = {OURS: partial(upscaler.upscale, photo)}
    packages = ["ai-edge-litert"]
    others: dict[str, tuple[str, Callable[[], Callable]]] = {
        "Keras": ("tensorflow", lambda: keras(model, photo)),
        "OpenVINO": ("openvino", lambda: openvino(path, photo)),
        "PyTorch": ("torch", lambda: plain_pytorch(photo)),
    }
    for name, (package, make) in others.items():
        if importlib.util.find_spec(package) is None:
            print(f"{name}: left out, as {package} is not installed")
            continue
        packages.append(package)
        contestants[name] = make()
    times = seconds_in_turns(contestants, rounds=15, rest=0.3)
    megapixels = SIDE * SIDE * upscaler.scale**2 / 1e6
    results = {}
    for name, seconds in times.items():
        median, least = statistics.median(seconds), min(seconds)
        share = median_ratio(times[OURS], seconds)
        results[name] = {
            "seconds": round(median, 4),
            "least_seconds": round(least, 4),
            "megapixels_per_second": round(megapixels / median, 3),
            f"{OURS}_takes": round(share, 3),
        }
        print(
            f"{name:9} {median:.3f} s, least {least:.3f} s, {megapixels / median:.2f} MP/s out; "
            f"{OURS} takes {share:.2f} of it",
            flush=True,
        )
    versions = {name: importlib.metadata.version(name) for name in packages}
    return {"input": [SIDE, SIDE], "versions": versions, "runtimes": results}


def write_photos(folder: Path, count: int, size: tuple[int, int]) -> None:
    """Write JPEGs of waves and noise."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[: size[0], : size[1]].astype(np.float32)
    for index in range(count):
        waves = np.stack([np.sin(x / a + y / b) for a, b in rng.uniform(3, 60, (3, 2))], axis=-1)
        noise = rng.standard_normal(waves.shape, np.float32)
        pixels = to_levels(0.5 + 0.3 * waves + 0.02 * noise)
        write_image(folder / f"{index}.jpg", pixels)


def process(checkout: Path, model: str, photos: Path) -> tuple[float, float]:
    """Measure the seconds and peak memory, in GB, of `srgan upscale` of a folder, by a checkout."""
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-c", _COMMAND, "upscale", str(photos), "-o", out]
        command += ["--model", model]
        environment = {**os.environ, "PYTHONPATH": str(checkout), "TF_CPP_MIN_LOG_LEVEL": "2"}
        started = time.perf_counter()
        done = subprocess.run(command, env=environment, cwd=out, capture_output=True, text=True)
        seconds = time.perf_counter() - started
    if done.returncode:
        raise SystemExit(f"{checkout}: `srgan upscale` failed: {done.stderr}")
    return seconds, int(done.stdout) / 2**20


def processes(model: str, baseline: Path | None) -> dict:
    """Enlarge photos with `srgan upscale`, and print times and memory."""
    results: dict[str, dict] = {}
    for name, (count, size, rounds) in PHOTOS.items():
        checkouts = {OURS: HERE}
        if baseline is not None and name == "256×256":
            checkouts["baseline"] = baseline
        runs: dict[str, list[tuple[float, float]]] = {who: [] for who in checkouts}
        with tempfile.TemporaryDirectory() as folder:
            write_photos(Path(folder), count, size)
            for _ in range(rounds):
                for who, checkout in checkouts.items():
                    runs[who].append(process(checkout, model, Path(folder)))
        for who, found in runs.items():
            seconds = [run[0] for run in found]
            entry = {
                "seconds": round(statistics.median(seconds), 2),
                "least_seconds": round(min(seconds), 2),
                "peak_gb": round(max(run[1] for run in found), 2),
            }
            if who != OURS:
                ours = [run[0] for run in runs[OURS]]
                entry[f"{OURS}_takes"] = round(median_ratio(ours, seconds), 3)
            results[name if who == OURS else f"{name}, {who}"] = entry
            print(f"{name} {who}: {entry}", flush=True)
    return {"processes": results}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default=DEFAULT_MODEL, help="a released name")
    parser.add_argument("--baseline", type=Path, help="a checkout of another commit")
    parser.add_argument("--out", type=Path, help="write the figures to this JSON file")
    arguments = parser.parse_args()
    if find_litert(arguments.model) is None:
        parser.error(f"{arguments.model} is not released as a .tflite model")
    results = {
        "command": f"python benchmarks/upscale.py --model {arguments.model}",
        "cores": os.cpu_count(),
        "model": arguments.model,
        **runtimes(arguments.model),
        **processes(arguments.model, arguments.baseline),
    }
    if arguments.baseline:
        git = ["git", "-C", str(arguments.baseline), "rev-parse", "--short", "HEAD"]
        commit = subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
        results["baseline"] = commit
        results["command"] += " --baseline CHECKOUT"
    if arguments.out:
        write_json(arguments.out, results)


if __name__ == "__main__":
    main()
