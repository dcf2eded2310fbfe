"""Contact sheets: the same crop of an image by every method, zoomed and labelled."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from srgan_tf.evaluation.benchmark import Scores, read_result
from srgan_tf.evaluation.metrics import METRICS
from srgan_tf.evaluation.sets import BenchmarkImage
from srgan_tf.evaluation.tables import MISSING, format_value
from srgan_tf.resize import nearest_upscale

_TILE = 216  # pixels of a zoomed crop's side
_ZOOM = 3
_GAP = 10
_FONT_SIZE = 14
_COLUMNS = 5


def choose_images(scores: Scores, names: list[str] | None = None) -> list[BenchmarkImage]:
    """Return the images to show, without those that have no scores.

    Args:
        names: as `SET/NAME`; None for the image of each set on which the methods' PSNR differs
            most, with every degradation.
    """
    scored = {(score.set, score.image) for score in scores.entries}
    groups = [[i for i in group if (i.set, i.name) in scored] for group in scores.sets.values()]
    if names is not None:
        return [image for group in groups for image in group if image.full_name in names]
    chosen: dict[str, str] = {}
    for images in filter(None, groups):
        most = max(images, key=lambda image: _spread(scores, image))
        chosen.setdefault(most.clean_set, most.name)
    return [image for group in groups for image in group if image.name == chosen[image.clean_set]]


def _spread(scores: Scores, image: BenchmarkImage) -> float:
    found = [scores.at(image.set, image.name, method.name) for method in scores.methods]
    values = [s.values["psnr"] for s in found if s and np.isfinite(s.values.get("psnr", np.nan))]
    return max(values) - min(values) if values else -1.0


def choose_crop(lr: np.ndarray, hr: np.ndarray, side: int) -> tuple[int, int]:
    """Return top and left of the square of `side` pixels that lost most in LR."""
    scale = hr.shape[0] // lr.shape[0]
    lost = hr.astype(np.float32) - nearest_upscale(lr, scale)
    energy = ndimage.uniform_filter(np.mean(lost**2, axis=2), side, mode="constant")
    half = side // 2
    inner = energy[half : hr.shape[0] - side + half + 1, half : hr.shape[1] - side + half + 1]
    top, left = np.unravel_index(np.argmax(inner), inner.shape)
    return int(top), int(left)


def contact_sheet(scores: Scores, image: BenchmarkImage) -> np.ndarray:
    """Draw HR with the crop marked, and the crop by every method with its scores below.

    Returns:
        uint8 [H, W, 3].

    Raises:
        ImageError: the image or a result can't be read.
    """
    lr, hr = image.load()
    side = min(_TILE // _ZOOM, *hr.shape[:2])
    top, left = choose_crop(lr, hr, side)
    font = ImageFont.load_default(_FONT_SIZE)
    line = _FONT_SIZE + 4
    tiles = []
    for method in scores.methods:
        score = scores.at(image.set, image.name, method.name)
        if score is not None:
            sr = read_result(score, image, method)[top : top + side, left : left + side]
            tiles.append((method.label, score.values, sr))
    # HR takes two by two tiles.
    cell_width, cell_height = _TILE + _GAP, _TILE + _GAP + 3 * line
    rows = 2 + max(0, -(-(len(tiles) - 2 * (_COLUMNS - 2)) // _COLUMNS))
    sheet = Image.new("RGB", (_COLUMNS * cell_width + _GAP, rows * cell_height + _GAP), "white")
    draw = ImageDraw.Draw(sheet)

    overview = Image.fromarray(hr)
    ratio = min(
        (2 * cell_width - _GAP) / overview.width, (2 * cell_height - _GAP - line) / overview.height
    )
    overview = overview.resize(
        (round(ratio * overview.width), round(ratio * overview.height)), Image.Resampling.LANCZOS
    )
    sheet.paste(overview, (_GAP, _GAP))
    box = [_GAP + round(ratio * v) for v in (left, top, left + side, top + side)]
    draw.rectangle(box, outline=(255, 0, 0), width=2)
    draw.text((_GAP, _GAP + overview.height + 4), f"{image.full_name}: HR", "black", font)

    places = [
        (row, column)
        for row in range(rows)
        for column in range(_COLUMNS)
        if row >= 2 or column >= 2
    ]
    for (row, column), (label, values, sr) in zip(places, tiles, strict=False):
        x, y = _GAP + column * cell_width, _GAP + row * cell_height
        zoomed = Image.fromarray(sr).resize((_ZOOM * side, _ZOOM * side), Image.Resampling.NEAREST)
        sheet.paste(zoomed, (x, y))
        shown = [format_value(values.get(name), METRICS[name].format) for name in scores.metrics]
        captions = (label, " / ".join(shown[:2]), " / ".join(shown[2:]))
        for index, caption in enumerate(captions):
            caption = caption.replace("∞", "inf").replace("−", "-").replace(MISSING, "-")
            draw.text((x, y + _TILE + 4 + index * line), caption, "black", font)
    return np.asarray(sheet)
