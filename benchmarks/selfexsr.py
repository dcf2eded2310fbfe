"""Measure SelfExSR's scores and times at ×4 on benchmark sets.

    python benchmarks/selfexsr.py --data DIR [--sets Set5,Set14] [--out FILE]

DIR contains SET/HR/*.png and SET/LRx4/*.png. Scores are PSNR and SSIM on Y of 8-bit results,
without a border of 4 pixels. Besides wall time it prints CPU time of all threads, which other work
on the machine affects less. Numba compiles before that, and caches the result.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np

from srgan_tf.evaluation.sets import BenchmarkImage, open_sets
from srgan_tf.files import write_json
from srgan_tf.metrics import psnr_y, ssim_y
from srgan_tf.resize import bicubic_upscale
from srgan_tf.selfexsr import upscale

SCALE = 4


def score(image: BenchmarkImage) -> dict[str, float]:
    """Return an image's megapixels, PSNR (dB), bicubic's PSNR, SSIM and seconds."""
    lr, hr = image.load()
    started, busy = time.perf_counter(), time.process_time()
    sr = upscale(lr, SCALE)
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - busy
    return {
        "megapixels": round(sr.shape[0] * sr.shape[1] / 1e6, 3),
        "psnr": round(float(psnr_y(hr, sr, border=SCALE)), 2),
        "bicubic_psnr": round(float(psnr_y(hr, bicubic_upscale(lr, SCALE), border=SCALE)), 2),
        "ssim": round(float(ssim_y(hr, sr, border=SCALE)), 4),
        "seconds": round(seconds, 1),
        "cpu_seconds": round(cpu_seconds, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--sets", default="Set5,Set14")
    parser.add_argument("--out", type=Path, help="write the results to this JSON file")
    arguments = parser.parse_args()

    upscale(np.zeros((32, 32), np.uint8), 2)  # Numba compiles
    packages = ("numba", "numpy", "opencv-python-headless")
    results: dict = {
        "command": f"python benchmarks/selfexsr.py --data DIR --sets {arguments.sets}",
        "cores": len(os.sched_getaffinity(0)),
        "versions": {name: importlib.metadata.version(name) for name in packages},
    }
    for name, images in open_sets(arguments.data, arguments.sets.split(","), SCALE).items():
        scores = {}
        for image in images:
            scores[image.name] = found = score(image)
            print(name, image.name, json.dumps(found), flush=True)
        mean = {
            key: round(float(np.mean([found[key] for found in scores.values()])), digits)
            for key, digits in (("psnr", 2), ("bicubic_psnr", 2), ("ssim", 4))
        }
        total = {
            key: round(sum(found[key] for found in scores.values()), 1)
            for key in ("seconds", "cpu_seconds")
        }
        results[name] = {**mean, **total, "images": scores}
        print(name, json.dumps({**mean, **total}), flush=True)
    if arguments.out:
        write_json(arguments.out, results)


if __name__ == "__main__":
    main()
