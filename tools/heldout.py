"""PSNR on photos held out of training, at their own size and downscaled.

    python tools/heldout.py MODEL [MODEL …] --data PHOTOS [--seed 0] [--out FILE]

Validation during training sees the held-out photos at their own size, where a camera's blur and
JPEG leave little detail in a pixel. Downscaled they are as sharp as the benchmark sets, so that
recipes can be chosen without those. MODEL is a run folder, a `.keras` file or a released name;
the seed is the recipe's, whose held-out photos these are. Y channel, PNG's 8 bits, without a
border of `scale` pixels.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
from PIL import Image

from srgan_tf import Upscaler
from srgan_tf.config import DataConfig
from srgan_tf.data.crops import central_crop
from srgan_tf.data.sources import open_source
from srgan_tf.data.store import open_store, split_photos
from srgan_tf.metrics import psnr_y
from srgan_tf.resize import bicubic_downscale

FACTORS = (1.0, 0.75, 0.5)
SIDE = 320  # of the central part that is measured, at most


def downscaled(photo: np.ndarray, factor: float) -> np.ndarray:
    """A uint8 [H, W, 3] photo by Pillow's bicubic, as `data.photo_scale` does it."""
    image = Image.fromarray(photo)
    size = (round(image.width * factor), round(image.height * factor))
    return np.asarray(image.resize(size, Image.Resampling.BICUBIC))


def psnr_of(upscaler: Upscaler, photo: np.ndarray) -> float:
    """PSNR in dB of the enlarged LR of a uint8 [H, W, 3] photo's centre."""
    hr = central_crop(photo, (SIDE, SIDE), upscaler.scale)
    lr = bicubic_downscale(hr, upscaler.scale)
    return float(psnr_y(hr, upscaler.upscale(lr), border=upscaler.scale))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="+", metavar="MODEL")
    parser.add_argument("--data", required=True, help="the photos that were trained on")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="write the results to this JSON file")
    arguments = parser.parse_args()
    names = [Path(model).name for model in arguments.models]
    if len(set(names)) < len(names):
        parser.error("two of the models have the same last part of their path, which names them")

    store = open_store(open_source(arguments.data))
    _, held_out = split_photos(store, DataConfig(), arguments.seed)
    photos = {
        factor: [downscaled(held_out[i], factor) for i in range(len(held_out))]
        for factor in FACTORS
    }
    scores = {}
    for name, model in zip(names, arguments.models, strict=True):
        upscaler = Upscaler(model)
        scores[name] = {
            str(factor): round(float(np.mean([psnr_of(upscaler, p) for p in photos[factor]])), 3)
            for factor in FACTORS
        }
        print(f"{name}: {scores[name]}", flush=True)
    if arguments.out:
        results = {
            "command": f"python tools/heldout.py {' '.join(names)} --data PHOTOS "
            f"--seed {arguments.seed}",
            "photos": len(held_out),
            "fingerprint": store.fingerprint,
            "psnr": scores,
        }
        arguments.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
