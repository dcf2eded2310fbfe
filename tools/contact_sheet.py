"""Draw the picture of docs/generators.md: crops by bicubic, released generators and HR, at 100 %.

    python tools/contact_sheet.py --data DIR

It shows the square of each photo whose detail is lost most in LR.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from srgan_tf.cli.common import names, run
from srgan_tf.evaluation.methods import open_methods
from srgan_tf.evaluation.pictures import choose_crop
from srgan_tf.evaluation.sets import open_sets
from srgan_tf.files import atomic_write

OUT = Path(__file__).parents[1] / "docs" / "results" / "contact_sheet.jpg"
METHODS = ["bicubic", "srresnet-mse", "srgan-vgg54", "hr"]
SCALE = 4
PHOTOS = {
    "Set14": ["img_001", "img_005", "img_006", "img_014"],  # baboon, comic, face, zebra
    "BSD100": ["img_007", "img_028", "img_068"],
}
SIDE, GAP, LINE = 256, 4, 20


def draw(arguments: argparse.Namespace) -> int:
    methods, _ = open_methods(arguments.methods, SCALE)
    images = [
        image
        for name, of_set in open_sets(arguments.data, list(PHOTOS), SCALE).items()
        for image in of_set
        if image.name in PHOTOS[name]
    ]
    cell = SIDE + GAP
    sheet = Image.new("RGB", (len(methods) * cell - GAP, LINE + len(images) * cell - GAP), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for column, method in enumerate(methods):
        draw.text((column * cell, 0), method.label, "black", font)
        for row, image in enumerate(images):
            lr, hr = image.load()
            side = min(SIDE, *hr.shape[:2])
            top, left = choose_crop(lr, hr, side)
            crop = method.enlarge(image, lr, hr)[top : top + side, left : left + side]
            sheet.paste(Image.fromarray(crop), (column * cell, LINE + row * cell))
    with atomic_write(arguments.out) as temporary:
        sheet.save(temporary, "JPEG", quality=92, subsampling=0)
    print(f"{arguments.out}: {arguments.out.stat().st_size / 1e6:.2f} MB")
    return 0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="the folder of Set14 and BSD100")
    parser.add_argument(
        "--methods",
        type=names,
        default=",".join(METHODS),
        help="columns, as for srgan evaluate (default: %(default)s)",
    )
    parser.add_argument("--out", type=Path, default=OUT, help="a JPEG (default: %(default)s)")
    run(parser, None, draw)


if __name__ == "__main__":
    main()
