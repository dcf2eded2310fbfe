"""Whether an exported generator still is the same: on real photos, against the Keras model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from srgan_tf.data.crops import central_crop
from srgan_tf.data.sources import open_source
from srgan_tf.errors import RequestError
from srgan_tf.images import to_levels
from srgan_tf.inference.engine import Engine
from srgan_tf.metrics import psnr_y
from srgan_tf.resize import bicubic_downscale

# HR pixels; large enough for Set5, and a minute for the slowest mode.
_LONGEST_SIDE = 512
# LR pixels.
_SHORTEST_SIDE = 8
_CALIBRATION_SIDE = 192
_CALIBRATION_BATCH = 8
_PANEL = 160
_MAGNIFY = 16


@dataclass(frozen=True)
class Bar:
    """What a mode must keep to.

    Attributes:
        psnr_loss: at most, in dB on Y, against the Keras model's PSNR; None: any.
        max_difference: at most, in grey levels; None: any.
    """

    psnr_loss: float | None = None
    max_difference: int | None = None


BARS = {
    "saved-model": Bar(max_difference=1),
    "float32": Bar(max_difference=1),
    "float16": Bar(psnr_loss=0.02),
    "dynamic": Bar(psnr_loss=0.1),
    "int8": Bar(psnr_loss=0.3),
    "int16x8": Bar(psnr_loss=0.05),
}


@dataclass(frozen=True)
class Fidelity:
    """How far an exported model is from the Keras one; 8-bit results, means over photos.

    Attributes:
        psnr: in dB on Y against HR, with a border of `scale` pixels cut.
        psnr_loss: the Keras model's PSNR minus this.
        max_difference: to the Keras model's results, in grey levels.
        mean_difference: likewise, of absolute values.
        passed: the bar was kept.
    """

    psnr: float
    psnr_loss: float
    max_difference: int
    mean_difference: float
    passed: bool


@dataclass(frozen=True)
class ReportPhoto:
    """HR and LR uint8 [H, W, 3], and the Keras model's result."""

    name: str
    hr: np.ndarray
    lr: np.ndarray
    reference: np.ndarray


def calibration_photos(
    source: str, scale: int, held_out: bool, count: int = 24
) -> list[np.ndarray]:
    """LR crops in batches, float32 [N, h, w, 3] in [0, 1], taken evenly from a source's photos.

    Args:
        source: as `srgan_tf.data.sources.open_source` takes it.
        held_out: leave out the photos that `report_photos(..., held_out=True)` takes.
        count: how many crops.

    Raises:
        RequestError: no such source, or no photo that is large enough.
    """
    photos = [
        hr
        for index, (_, hr) in enumerate(open_source(source).photos())
        if isinstance(hr, np.ndarray)
        and min(hr.shape[:2]) >= _CALIBRATION_SIDE
        and not (held_out and _is_held_out(index))
    ]
    if not photos:
        raise RequestError(
            f"{source}: no photo of {_CALIBRATION_SIDE}×{_CALIBRATION_SIDE} or more to calibrate on"
        )
    rng = np.random.default_rng(0)
    crops = []
    for index in range(count):
        hr = photos[index % len(photos)]
        top, left = (int(rng.integers(side - _CALIBRATION_SIDE + 1)) for side in hr.shape[:2])
        crops.append(hr[top : top + _CALIBRATION_SIDE, left : left + _CALIBRATION_SIDE])
    lr = bicubic_downscale(np.stack(crops), scale) / np.float32(255)
    return [lr[start : start + _CALIBRATION_BATCH] for start in range(0, count, _CALIBRATION_BATCH)]


def report_photos(
    source: str, engine: Engine, held_out: bool, size: tuple[int, int] | None = None
) -> list[ReportPhoto]:
    """Photos, cut in their middle to at most 512 pixels a side, with the Keras model's results.

    Args:
        source: as `srgan_tf.data.sources.open_source` takes it.
        engine: of the Keras model.
        held_out: only every third, which `calibration_photos(..., held_out=True)` leaves out.
        size: (height, width) of LR photos that the models are fixed to; smaller ones are left out.

    Raises:
        RequestError: no such source, or no photo in it that is large enough.
    """
    photos = []
    for index, (name, hr) in enumerate(open_source(source).photos()):
        if not isinstance(hr, np.ndarray) or (held_out and not _is_held_out(index)):
            continue
        middle = _middle(hr, engine.scale, size)
        if middle is None:
            continue
        lr = bicubic_downscale(middle, engine.scale)
        photos.append(ReportPhoto(name, middle, lr, enlarge(engine, lr)))
    if not photos:
        large = "×".join(map(str, size)) if size else f"{_SHORTEST_SIDE}×{_SHORTEST_SIDE}"
        raise RequestError(
            f"{source}: no photo for the fidelity report, of {large} pixels when made "
            f"{engine.scale} times smaller"
        )
    return photos


def enlarge(engine: Engine, lr: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3] to uint8 [scale·H, scale·W, 3]."""
    return to_levels(engine(lr[None] / np.float32(255))[0])


def compare(
    photos: Sequence[ReportPhoto], results: Sequence[np.ndarray], scale: int, bar: Bar
) -> Fidelity:
    """The fidelity of a mode's results, uint8, one a photo."""
    psnr = _mean_psnr(photos, results, scale)
    loss = _mean_psnr(photos, [photo.reference for photo in photos], scale) - psnr
    differences = [
        np.abs(result.astype(int) - photo.reference)
        for photo, result in zip(photos, results, strict=True)
    ]
    highest = max(int(difference.max()) for difference in differences)
    passed = (bar.psnr_loss is None or loss <= bar.psnr_loss) and (
        bar.max_difference is None or highest <= bar.max_difference
    )
    mean = float(np.mean([difference.mean() for difference in differences]))
    return Fidelity(round(psnr, 4), round(loss, 4), highest, round(mean, 4), passed)


def side_by_side(photo: ReportPhoto, results: dict[str, np.ndarray]) -> Image.Image:
    """A detail of HR and of each result, and below it 16 times the difference to Keras'."""
    panels = {"HR": photo.hr, "Keras": photo.reference, **results}
    top, left = (max(0, (side - _PANEL) // 2) for side in photo.hr.shape[:2])
    cut = slice(top, top + _PANEL), slice(left, left + _PANEL)
    height, width = photo.hr[cut].shape[:2]
    caption = 14
    sheet = Image.new("RGB", (len(panels) * width, 2 * (height + caption)), "white")
    draw = ImageDraw.Draw(sheet)
    for index, (name, pixels) in enumerate(panels.items()):
        x = index * width
        draw.text((x + 2, 1), name, "black")
        sheet.paste(Image.fromarray(pixels[cut]), (x, caption))
        if name in results:
            difference = pixels[cut].astype(int) - photo.reference[cut]
            magnified = np.clip(128 + _MAGNIFY * difference, 0, 255).astype(np.uint8)
            draw.text((x + 2, height + caption + 1), f"{_MAGNIFY}x minus Keras", "black")
            sheet.paste(Image.fromarray(magnified), (x, height + 2 * caption))
    return sheet


def _mean_psnr(photos: Sequence[ReportPhoto], results: Sequence[np.ndarray], scale: int) -> float:
    return float(np.mean(list(_psnrs(photos, results, scale))))


def _psnrs(
    photos: Sequence[ReportPhoto], results: Sequence[np.ndarray], scale: int
) -> Iterator[float]:
    for photo, result in zip(photos, results, strict=True):
        yield float(psnr_y(result, photo.hr, scale))


def _is_held_out(index: int) -> bool:
    return index % 3 == 2


def _middle(hr: np.ndarray, scale: int, size: tuple[int, int] | None) -> np.ndarray | None:
    """Its middle, of the size times the scale if given; None: too small."""
    wanted = (scale * size[0], scale * size[1]) if size else (_LONGEST_SIDE, _LONGEST_SIDE)
    middle = central_crop(hr, wanted, scale)
    least = wanted if size else (scale * _SHORTEST_SIDE,) * 2
    large = all(side >= at_least for side, at_least in zip(middle.shape, least, strict=False))
    return middle if large else None
