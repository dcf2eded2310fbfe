"""Measures the grids and the coloured noise in SR: the power that HR's spectrum does not have.

    python benchmarks/spectra.py MODEL [MODEL …] --data BSD100 [--out FILE]

The spectrum loss of each image, which is the mean over the frequencies of Y, U and V of the squared
log of how many times as much power SR has as HR where it has more; 0 is best. The mean over the
images, and the image with the most. MODEL is a run folder, a `.keras` file or a released name.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np

from srgan_tf import Upscaler
from srgan_tf.evaluation.sets import open_sets
from srgan_tf.losses import spectrum_loss


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="+", metavar="MODEL")
    parser.add_argument("--data", type=Path, required=True, help="a folder with HR and LRx4")
    parser.add_argument("--out", type=Path, help="write the results to this JSON file")
    arguments = parser.parse_args()
    names = [Path(model).stem for model in arguments.models]
    if len(set(names)) < len(names):
        parser.error("two of the models have the same last part of their path, which names them")

    scores = {}
    for name, model in zip(names, arguments.models, strict=True):
        upscaler = Upscaler(model)
        (images,) = open_sets(arguments.data.parent, [arguments.data.name], upscaler.scale).values()
        losses = {}
        for image in images:
            lr, hr = image.load()
            hr, sr = (x.astype(np.float32)[None] / 127.5 - 1 for x in (hr, upscaler.upscale(lr)))
            losses[image.name] = float(spectrum_loss(hr, sr))
        worst = max(losses, key=losses.__getitem__)
        scores[name] = {
            "mean": round(float(np.mean(list(losses.values()))), 3),
            "worst": {worst: round(losses[worst], 3)},
        }
        print(f"{name}: {scores[name]}", flush=True)
    if arguments.out:
        results = {
            "command": f"python benchmarks/spectra.py {' '.join(names)} "
            f"--data {arguments.data.name}",
            "spectrum_loss": scores,
        }
        arguments.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
