"""Compute PSNR on photos held out of training, at their original size and downscaled.

    python tools/heldout.py MODEL [MODEL …] --data PHOTOS [--seed 0] [--out FILE]

Validation during training uses the held-out photos at their original size, where blur and JPEG
leave little detail per pixel. Downscaled photos are as sharp as the benchmark sets, so recipes can
be chosen without those. MODEL is a run folder, a `.keras` file or a released name; the seed is the
recipe's, which determines the held-out photos, as does `data.validation_photos`, here 16 as in all
recipes of srgan_tf/recipes. PSNR is on Y of 8-bit results, without a border of
`scale` pixels.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
from PIL import Image

from srgan_tf import Upscaler
from srgan_tf.cli.common import run
from srgan_tf.config import DataConfig
from srgan_tf.data.crops import central_crop
from srgan_tf.data.sources import open_source
from srgan_tf.data.store import open_store, split_photos
from srgan_tf.errors import UserError
from srgan_tf.files import write_json
from srgan_tf.metrics import psnr_y
from srgan_tf.resize import bicubic_downscale

FACTORS = (1.0, 0.75, 0.5)
SIDE = 320  # largest side of the central crop


def downscaled(photo: np.ndarray, factor: float) -> np.ndarray:
    """Downscale a uint8 [H, W, 3] photo by Pillow's bicubic, as `data.min_downscale` does."""
    image = Image.fromarray(photo)
    size = (round(image.width * factor), round(image.height * factor))
    return np.asarray(image.resize(size, Image.Resampling.BICUBIC))


def psnr_of(upscaler: Upscaler, photo: np.ndarray) -> float:
    """Compute PSNR in dB of the enlarged LR of a uint8 [H, W, 3] photo's centre."""
    hr = central_crop(photo, (SIDE, SIDE), upscaler.scale)
    lr = bicubic_downscale(hr, upscaler.scale)
    return float(psnr_y(hr, upscaler.upscale(lr), border=upscaler.scale))


def compare(arguments: argparse.Namespace) -> int:
    names = [Path(model).name for model in arguments.models]
    if len(set(names)) < len(names):
        raise UserError("two models have the same last path component, which must be unique")

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
        write_json(arguments.out, results, indent=1)
    return 0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="+", metavar="MODEL")
    parser.add_argument("--data", required=True, help="the training photos")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="write the results to this JSON file")
    run(parser, None, compare)


if __name__ == "__main__":
    main()
