"""Measure grids and noise in SR by its spectra.

    python experiments/spectra.py MODEL [MODEL …] --data BSD100 [--out FILE]

Results are the mean over the images, and the worst image, of the spectrum loss (SR's power against
HR's) and the coherence loss (patterns with the period of LR's pixels). MODEL is a run folder, a
`.keras` file or a released name.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np

from srgan_tf import Upscaler
from srgan_tf.evaluation.sets import open_sets
from srgan_tf.files import write_json
from srgan_tf.losses import coherence_loss, log_spectrum_mse_loss


def summary(losses: dict[str, float]) -> dict:
    """Return the mean and the worst image."""
    worst = max(losses, key=losses.__getitem__)
    mean = float(np.mean(list(losses.values())))
    return {"mean": round(mean, 4), "worst": {worst: round(losses[worst], 4)}}


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
        parser.error("two models have the same last path component, which must be unique")

    scores, hr_coherence = {}, {}
    for name, model in zip(names, arguments.models, strict=True):
        upscaler = Upscaler(model)
        (images,) = open_sets(arguments.data.parent, [arguments.data.name], upscaler.scale).values()
        spectrum, coherence = {}, {}
        for image in images:
            lr, hr = image.load()
            hr, sr = (x.astype(np.float32)[None] / 127.5 - 1 for x in (hr, upscaler.upscale(lr)))
            spectrum[image.name] = float(log_spectrum_mse_loss(hr, sr, upscaler.scale))
            coherence[image.name] = float(coherence_loss(hr, sr, upscaler.scale))
            if image.name not in hr_coherence:
                hr_coherence[image.name] = float(coherence_loss(hr, hr, upscaler.scale))
        scores[name] = {"spectrum": summary(spectrum), "coherence": summary(coherence)}
        print(f"{name}: {scores[name]}", flush=True)
    scores["HR"] = {"coherence": summary(hr_coherence)}
    print(f"HR: {scores['HR']}")
    if arguments.out:
        results = {
            "command": f"python experiments/spectra.py {' '.join(names)} "
            f"--data {arguments.data.name}",
            "losses": scores,
        }
        write_json(arguments.out, results, indent=1)


if __name__ == "__main__":
    main()
