"""Measure grids and noise in SR by its spectra.

    python experiments/spectra.py MODEL [MODEL …] --data BSD100 [--out FILE]

Results are the mean over the images, and the worst image, of the spectrum loss (SR's power against
HR's), the coherence loss (patterns with the period of LR's pixels that vary) and the pattern (what
all blocks of `scale` pixels have in common, in grey levels). MODEL is a run folder, a `.keras` file
or a released name.
"""

from __future__ import annotations

import argparse
import os
from collections import defaultdict
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np

from srgan_tf import Upscaler
from srgan_tf.cli.common import run
from srgan_tf.errors import UserError
from srgan_tf.evaluation.sets import open_sets
from srgan_tf.files import write_json
from srgan_tf.losses import coherence_loss, log_spectrum_mse_loss
from srgan_tf.metrics import luma
from srgan_tf.ranges import normalize


def pattern(image: np.ndarray, scale: int) -> float:
    """Compute the standard deviation of an image's mean block.

    Args:
        image: uint8 [H, W, 3].
        scale: the block's side.

    Returns:
        Grey levels of Y.
    """
    y = luma(image)
    height, width = (side // scale * scale for side in y.shape)
    blocks = y[:height, :width].reshape(height // scale, scale, width // scale, scale)
    return float(blocks.mean((0, 2)).std())


def summary(values: dict[str, float]) -> dict:
    """Return the mean and the worst image."""
    worst = max(values, key=values.__getitem__)
    mean = float(np.mean(list(values.values())))
    return {"mean": round(mean, 4), "worst": {worst: round(values[worst], 4)}}


def measure(arguments: argparse.Namespace) -> int:
    names = [Path(model).stem for model in arguments.models]
    if len(set(names)) < len(names):
        raise UserError("two models have the same last path component, which must be unique")

    scores = {}
    for name, model in zip(["HR", *names], [None, *arguments.models], strict=True):
        upscaler = Upscaler(model) if model else None
        scale = upscaler.scale if upscaler else 4
        (images,) = open_sets(arguments.data.parent, [arguments.data.name], scale).values()
        values: dict[str, dict[str, float]] = defaultdict(dict)
        for image in images:
            lr, hr = image.load()
            sr = upscaler.upscale(lr) if upscaler else hr
            values["pattern"][image.name] = pattern(sr, scale)
            hr, sr = (normalize(x.astype(np.float32)[None]) for x in (hr, sr))
            values["coherence"][image.name] = float(coherence_loss(hr, sr, scale))
            if upscaler:
                values["spectrum"][image.name] = float(log_spectrum_mse_loss(hr, sr, scale))
        scores[name] = {measure: summary(of_images) for measure, of_images in values.items()}
        print(f"{name}: {scores[name]}", flush=True)
    if arguments.out:
        results = {
            "command": f"python experiments/spectra.py {' '.join(names)} "
            f"--data {arguments.data.name}",
            "measures": scores,
        }
        write_json(arguments.out, results, indent=1)
    return 0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="+", metavar="MODEL")
    parser.add_argument("--data", type=Path, required=True, help="a folder with HR and LRx4")
    parser.add_argument("--out", type=Path, help="write the results to this JSON file")
    run(parser, None, measure)


if __name__ == "__main__":
    main()
