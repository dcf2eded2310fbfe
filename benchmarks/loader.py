"""Measure the loader's batches per second for the photo recipe, with 1 and 2 processes.

    python benchmarks/loader.py PHOTOS [--out FILE]

Batches have 16 crops of 96×96 from a folder of photos, degraded as in the recipe srresnet_photo.
Besides wall time it prints CPU time per batch, which other work on the machine affects less.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as the loader's processes have

from PIL import Image

from srgan_tf.config import DataConfig, read_config
from srgan_tf.cores import available_cores
from srgan_tf.data.crops import crop_batch
from srgan_tf.data.loader import PREFETCH, load_batches
from srgan_tf.data.sources import open_source
from srgan_tf.data.store import PhotoStore, open_store, split_photos
from srgan_tf.files import write_json
from srgan_tf.recipes import find_recipe

RECIPE = "srresnet_photo"
BATCHES = 200


def cpu_milliseconds(photos: PhotoStore, data: DataConfig) -> float:
    """Measure the CPU time of a batch in this process, with all resizing matrices cached."""
    for step in range(20):
        crop_batch(photos, data, 4, 0, step)
    started = time.process_time()
    for step in range(BATCHES):
        crop_batch(photos, data, 4, 0, step)
    return 1000 * (time.process_time() - started) / BATCHES


def batches_per_second(photos: PhotoStore, data: DataConfig, processes: int) -> float:
    """Measure batches per second of wall time, once the prefetched batches are used up."""
    first = 2 * PREFETCH * processes
    every = range(data.batch_size)
    elements = [(step, every) for step in range(first + BATCHES)]
    batches = load_batches(photos.open, data, 4, 0, elements, processes)
    for _ in range(first):
        next(batches)
    started = time.perf_counter()
    count = sum(1 for _ in batches)
    return count / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("photos", metavar="PHOTOS")
    parser.add_argument("--out", type=Path, metavar="FILE")
    arguments = parser.parse_args()

    size = ["data.hr_crop=96", "data.batch_size=16"]
    data = read_config(find_recipe(RECIPE), [f"data.source={arguments.photos}", *size]).data
    photos, _ = split_photos(open_store(open_source(data.source)), data, seed=0)
    results = {
        "command": "python benchmarks/loader.py PHOTOS",
        "photos": len(photos),
        "cores": available_cores(),
        "pillow": Image.__version__,
        "cpu_milliseconds_per_batch": round(cpu_milliseconds(photos, data), 1),
        "batches_per_second": {
            f"{n} process{'es' * (n > 1)}": round(batches_per_second(photos, data, n), 1)
            for n in (1, 2)
        },
    }
    print(json.dumps(results, indent=2))
    if arguments.out:
        write_json(arguments.out, results)


if __name__ == "__main__":
    main()
