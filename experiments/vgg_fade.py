"""Measure the VGG losses of SR with more or less contrast than HR.

    python experiments/vgg_fade.py --data BSD100 --vgg FILE

Each SR is normalized to HR's mean and standard deviation, then its contrast is scaled. The loss
should be lowest at 1.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from srgan_tf import Upscaler
from srgan_tf.cli.common import run
from srgan_tf.evaluation.sets import open_sets
from srgan_tf.files import write_json
from srgan_tf.losses import ContentLosses
from srgan_tf.ranges import normalize

OUT = Path(__file__).parents[1] / "docs" / "results" / "vgg_fade.json"
CONTRASTS = (0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0, 1.05, 1.1)
SCALE = 4


def measure_all(arguments: argparse.Namespace) -> int:
    upscaler = Upscaler(arguments.model)
    losses = ContentLosses(("mse", "vgg22", "vgg54"), SCALE, arguments.vgg)
    measured: dict[str, dict[float, list[float]]] = {
        name: {contrast: [] for contrast in CONTRASTS} for name in losses.names
    }
    (images,) = open_sets(arguments.data.parent, [arguments.data.name], SCALE).values()
    for image in images[: arguments.images]:
        lr, hr = image.load()
        hr, sr = (normalize(x.astype(np.float32)[None]) for x in (hr, upscaler.upscale(lr)))
        mean = hr.mean((1, 2), keepdims=True)
        detail = (sr - sr.mean((1, 2), keepdims=True)) * hr.std() / sr.std()
        for contrast in CONTRASTS:
            for name, loss in losses(hr, mean + contrast * detail).items():
                measured[name][contrast].append(float(loss))
    results = {
        "command": f"python experiments/vgg_fade.py --data {arguments.data.name} --vgg FILE",
        "model": arguments.model,
        "images": arguments.images,
        "losses": {
            name: {str(contrast): float(np.mean(values)) for contrast, values in of_loss.items()}
            for name, of_loss in measured.items()
        },
    }
    write_json(arguments.out, results)
    json.dump(results["losses"], sys.stdout, indent=2)
    return 0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="a folder with HR and LRx4")
    parser.add_argument("--vgg", default="imagenet", help="VGG19's weights without its top")
    parser.add_argument("--model", default="srresnet-mse", help="default: %(default)s")
    parser.add_argument("--images", type=int, default=20, help="the first ones; default: 20")
    parser.add_argument("--out", type=Path, default=OUT)
    run(parser, None, measure_all)


if __name__ == "__main__":
    main()
