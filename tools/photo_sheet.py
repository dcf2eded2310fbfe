"""Draw a contact sheet of real photos: bicubic and generators side by side, at 100 %.

    python tools/photo_sheet.py PHOTOS --out docs/results/photos.jpg [--names a,b] [--crop 96]

A row shows the centre of a photo, or its part at --at NAME=X,Y, enlarged by each model.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from srgan_tf import Upscaler
from srgan_tf.cli.common import names, run
from srgan_tf.errors import UserError
from srgan_tf.files import atomic_write, is_image_name
from srgan_tf.images import read_photo

GAP, LABEL = 4, 18


def draw(arguments: argparse.Namespace) -> int:
    if not arguments.photos.is_dir():
        raise UserError(f"{arguments.photos}: no such folder")
    files = {
        path.stem: path for path in sorted(arguments.photos.iterdir()) if is_image_name(path.name)
    }
    chosen = arguments.names or list(files)
    if not chosen:
        raise UserError(f"{arguments.photos}: no photo in this folder")
    if missing := [name for name in chosen if name not in files]:
        raise UserError(f"--names {missing[0]}: no such photo in {arguments.photos}")
    places = {}
    for place in arguments.at:
        match = re.fullmatch(r"(.+)=(\d+),(\d+)", place)
        if match is None:
            raise UserError(f"--at {place}: must be NAME=X,Y")
        places[match[1]] = int(match[2]), int(match[3])
    upscalers = [Upscaler(model) for model in arguments.models]
    labels = ["bicubic", *arguments.models]
    side = 4 * arguments.crop
    strips = []
    for name in chosen:
        photo = read_photo(files[name])
        height, width = photo.shape[:2]
        x, y = ((length - arguments.crop) // 2 for length in (width, height))
        x, y = places.get(name, (x, y))
        if not (0 <= x <= width - arguments.crop and 0 <= y <= height - arguments.crop):
            raise UserError(
                f"{files[name]}: no crop of {arguments.crop} pixels at {x},{y} in {width}×{height}"
            )
        bicubic = Image.fromarray(photo).resize((4 * width, 4 * height), Image.Resampling.BICUBIC)
        results = [np.asarray(bicubic), *(upscaler.upscale(photo) for upscaler in upscalers)]
        crops = [image[4 * y : 4 * y + side, 4 * x : 4 * x + side] for image in results]
        strip = Image.new("RGB", (len(crops) * (side + GAP), side + GAP + LABEL), "white")
        for index, (crop, label) in enumerate(zip(crops, labels, strict=True)):
            strip.paste(Image.fromarray(crop), (index * (side + GAP), LABEL))
            ImageDraw.Draw(strip).text((index * (side + GAP) + 2, 3), f"{name}: {label}", "black")
        strips.append(strip)
    rows = -(-len(strips) // arguments.columns)
    width, height = strips[0].size
    sheet = Image.new("RGB", (arguments.columns * (width + 2 * GAP), rows * height), "white")
    for index, strip in enumerate(strips):
        row, column = divmod(index, arguments.columns)
        sheet.paste(strip, (column * (width + 2 * GAP), row * height))
    with atomic_write(arguments.out) as temporary:
        sheet.save(temporary, "JPEG", quality=arguments.quality)
    return 0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("photos", type=Path, metavar="PHOTOS")
    parser.add_argument("--out", type=Path, required=True, help="a JPEG")
    parser.add_argument("--models", type=names, default="srgan-vgg54,srgan-photo")
    parser.add_argument("--names", type=names, help="photos by stem (default: all)")
    parser.add_argument("--at", action="append", default=[], metavar="NAME=X,Y")
    parser.add_argument("--crop", type=int, default=80, help="side of the crops, in LR pixels")
    parser.add_argument("--columns", type=int, default=1, help="photos side by side")
    parser.add_argument("--quality", type=int, default=85)
    run(parser, None, draw)


if __name__ == "__main__":
    main()
