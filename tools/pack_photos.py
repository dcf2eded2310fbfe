"""Downscale and recompress training photos, for machines with little disk space.

    python tools/pack_photos.py PHOTOS OUT --scale 0.6 --quality 90

Each photo is downscaled (Lanczos) by the scale, but not to sides below --min-side pixels, and saved
as JPEG with full chroma under the same relative name; with a.jpg and a.png, the latter becomes
a.png.jpg. FOLDER=SCALE sets the scale of a subfolder. Photos that can't be read are named and
skipped. Training on OUT is training on sharper, smaller photos: note it on the card.
"""

from __future__ import annotations

import argparse
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path, PurePath

import numpy as np
from PIL import Image, ImageFile

from srgan_tf.cli.common import run
from srgan_tf.cores import available_cores
from srgan_tf.data.sources import open_source
from srgan_tf.errors import UserError
from srgan_tf.files import atomic_write, first_line


def readable(
    photos: Iterable[tuple[str, np.ndarray | Exception]],
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield each photo's result name and pixels; print why the others are skipped."""
    taken = set()
    for name, pixels in photos:
        if isinstance(pixels, Exception):
            print(f"skipped {name}: {first_line(pixels)}", file=sys.stderr)
            continue
        result = PurePath(name).with_suffix(".jpg").as_posix()
        while result in taken:
            name += ".jpg"
            result = name
        taken.add(result)
        yield result, pixels


def scale_of(name: str, scales: dict[str, float], default: float) -> float:
    """Return the scale of the first folder that contains the photo."""
    parent = PurePath(name).parent
    return next((s for folder, s in scales.items() if parent.is_relative_to(folder)), default)


def pack(
    photo: tuple[str, np.ndarray],
    out: Path,
    scales: dict[str, float],
    arguments: argparse.Namespace,
) -> int:
    """Write one photo and return the size of its file."""
    name, pixels = photo
    image = Image.fromarray(pixels)
    scale = scale_of(name, scales, arguments.scale)
    scale = min(1.0, max(scale, arguments.min_side / min(image.size)))
    size = tuple(max(1, round(side * scale)) for side in image.size)
    path = out / name
    # A progressive file is written at once: Pillow's buffer must hold it.
    ImageFile.MAXBLOCK = 3 * image.width * image.height
    small = image if scale == 1 else image.resize(size, Image.Resampling.LANCZOS)
    options = {"subsampling": 0, "optimize": True, "progressive": True}
    with atomic_write(path) as temporary:
        small.save(temporary, "JPEG", quality=arguments.quality, **options)
    return path.stat().st_size


def folder_scale(text: str) -> tuple[str, float]:
    """Read FOLDER=SCALE, for argparse's `type`."""
    folder, separator, scale = text.rpartition("=")
    if not separator:
        raise argparse.ArgumentTypeError(f"{text!r} must be FOLDER=SCALE")
    return folder, float(scale)


def pack_all(arguments: argparse.Namespace) -> int:
    scales = dict(arguments.scales)
    if Path(arguments.photos).resolve() == arguments.out.resolve():
        raise UserError("OUT is PHOTOS, whose files would be replaced: give another folder")
    source = open_source(arguments.photos)
    for folder in scales:
        if Path(folder).is_absolute() or not (Path(arguments.photos) / folder).is_dir():
            raise UserError(f"{folder}: no such folder in {arguments.photos}")
    sizes: list[int] = []
    waiting: deque[Future[int]] = deque()  # few, as each holds a decoded photo
    cores = available_cores()
    with ProcessPoolExecutor(cores) as pool:
        for photo in readable(source.photos()):
            if len(waiting) == 2 * cores:
                sizes.append(waiting.popleft().result())
            waiting.append(pool.submit(pack, photo, arguments.out, scales, arguments))
        sizes += [future.result() for future in waiting]
    print(f"{len(sizes)} photos, {sum(sizes) / 1e6:.1f} MB in {arguments.out}")
    return 0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("photos", metavar="PHOTOS")
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("scales", nargs="*", type=folder_scale, metavar="FOLDER=SCALE")
    parser.add_argument("--scale", type=float, default=0.6)
    parser.add_argument("--min-side", type=int, default=200, metavar="N")
    parser.add_argument("--quality", type=int, default=90)
    run(parser, None, pack_all)


if __name__ == "__main__":
    main()
