"""Comparison of an exported generator with the Keras model, on real photos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from srgan_tf.data.crops import central_crop
from srgan_tf.data.sources import open_source
from srgan_tf.errors import UserError
from srgan_tf.images import to_levels
from srgan_tf.inference.engine import Engine
from srgan_tf.metrics import mean_psnr, psnr_y
from srgan_tf.resize import bicubic_downscale

# In HR pixels: Set5 fits, and the slowest mode takes a minute.
_MAX_SIDE = 512
# In LR pixels.
_MIN_SIDE = 8
_CALIBRATION_SIDE = 192
_CALIBRATION_CROPS = 24
_CALIBRATION_BATCH = 8
_CALIBRATION_CENTRE = 1024  # in HR pixels
_PANEL = 160
_MAGNIFY = 16


@dataclass(frozen=True)
class Tolerance:
    """How far a mode may be from the Keras model.

    Attributes:
        psnr_loss: largest loss of PSNR in dB on Y; None for any.
        max_difference: largest difference in grey levels; None for any.
    """

    psnr_loss: float | None = None
    max_difference: int | None = None


TOLERANCES = {
    "saved-model": Tolerance(max_difference=1),
    "float32": Tolerance(max_difference=1),
    "float16": Tolerance(psnr_loss=0.02),
    "dynamic": Tolerance(psnr_loss=0.1),
    "int8": Tolerance(psnr_loss=0.3),
    "int16x8": Tolerance(psnr_loss=0.05),
}


@dataclass(frozen=True)
class Fidelity:
    """How far an exported model's 8-bit results are from the Keras model's.

    Attributes:
        psnr: mean PSNR in dB on Y against HR, without a border of `scale` pixels.
        psnr_loss: the Keras model's PSNR minus this.
        max_difference: largest absolute difference to the Keras model's results, in grey levels.
        mean_difference: mean absolute difference, in grey levels.
        passed: whether these are within the tolerance.
    """

    psnr: float
    psnr_loss: float
    max_difference: int
    mean_difference: float
    passed: bool


@dataclass(frozen=True)
class ReferencePhoto:
    """A photo's HR and LR, uint8 [H, W, 3], and the Keras model's result, like HR."""

    name: str
    hr: np.ndarray
    lr: np.ndarray
    reference: np.ndarray


def calibration_photos(source: str, scale: int, held_out: bool) -> list[np.ndarray]:
    """Return 24 LR crops from 12 to 24 photos at equal distances, or all if there are fewer.

    Args:
        source: see `srgan_tf.data.sources.open_source`.
        scale: ratio of HR's side to LR's.
        held_out: exclude the photos that `reference_photos(..., held_out=True)` returns.

    Returns:
        Batches, float32 [N, h, w, 3] in [0, 1].

    Raises:
        UserError: no such source, or no photo is large enough.
    """
    usable = (
        hr
        for index, (_, hr) in enumerate(open_source(source).photos())
        if isinstance(hr, np.ndarray)
        and min(hr.shape[:2]) >= _CALIBRATION_SIDE
        and not (held_out and _is_held_out(index))
    )
    photos: list[np.ndarray] = []
    stride = 1
    for index, hr in enumerate(usable):
        if index % stride == 0:
            photos.append(central_crop(hr, (_CALIBRATION_CENTRE,) * 2).copy())
        if len(photos) > _CALIBRATION_CROPS:
            photos, stride = photos[::2], 2 * stride
    if not photos:
        raise UserError(
            f"{source}: no photo of at least {_CALIBRATION_SIDE}×{_CALIBRATION_SIDE} pixels to "
            "calibrate on"
        )
    rng = np.random.default_rng(0)
    crops = []
    for index in range(_CALIBRATION_CROPS):
        hr = photos[index % len(photos)]
        top, left = (int(rng.integers(side - _CALIBRATION_SIDE + 1)) for side in hr.shape[:2])
        crops.append(hr[top : top + _CALIBRATION_SIDE, left : left + _CALIBRATION_SIDE])
    lr = bicubic_downscale(np.stack(crops), scale) / np.float32(255)
    return list(lr.reshape(-1, _CALIBRATION_BATCH, *lr.shape[1:]))


def reference_photos(
    source: str, engine: Engine, held_out: bool, size: tuple[int, int] | None = None
) -> list[ReferencePhoto]:
    """Return photos, centre-cropped to at most 512 pixels per side, with the Keras model's results.

    Args:
        source: see `srgan_tf.data.sources.open_source`.
        engine: of the Keras model.
        held_out: only every third, which `calibration_photos(..., held_out=True)` excludes.
        size: fixed (height, width) of the models' input; smaller photos are skipped.

    Raises:
        UserError: no such source, or no photo is large enough.
    """
    photos = []
    for index, (name, hr) in enumerate(open_source(source).photos()):
        if not isinstance(hr, np.ndarray) or (held_out and not _is_held_out(index)):
            continue
        centre = _centre(hr, engine.scale, size)
        if centre is None:
            continue
        lr = bicubic_downscale(centre, engine.scale)
        photos.append(ReferencePhoto(name, centre, lr, enlarge(engine, lr)))
    if not photos:
        smallest = "×".join(map(str, size)) if size else f"{_MIN_SIDE}×{_MIN_SIDE}"
        raise UserError(
            f"{source}: no photo is large enough to compare on: {smallest} pixels after "
            f"downscaling by {engine.scale}; give larger ones as --photos"
        )
    return photos


def enlarge(engine: Engine, lr: np.ndarray) -> np.ndarray:
    """Enlarge uint8 [H, W, 3] to uint8 [scale·H, scale·W, 3]."""
    return to_levels(engine(lr[None] / np.float32(255))[0])


def compare(
    photos: Sequence[ReferencePhoto],
    results: Sequence[np.ndarray],
    scale: int,
    tolerance: Tolerance,
) -> Fidelity:
    """Compute the fidelity of a mode's results, one uint8 array per photo."""
    psnr = _mean_psnr(photos, results, scale)
    loss = _mean_psnr(photos, [photo.reference for photo in photos], scale) - psnr
    differences = [
        np.abs(result.astype(int) - photo.reference)
        for photo, result in zip(photos, results, strict=True)
    ]
    highest = max(int(difference.max()) for difference in differences)
    passed = (tolerance.psnr_loss is None or loss <= tolerance.psnr_loss) and (
        tolerance.max_difference is None or highest <= tolerance.max_difference
    )
    mean = float(np.mean([difference.mean() for difference in differences]))
    return Fidelity(round(psnr, 4), round(loss, 4), highest, round(mean, 4), passed)


def side_by_side(photo: ReferencePhoto, results: dict[str, np.ndarray]) -> Image.Image:
    """Draw a detail of HR and of each result, and below it 16 times the difference to Keras'."""
    panels = {"HR": photo.hr, "Keras": photo.reference, **results}
    details = {name: central_crop(pixels, (_PANEL, _PANEL)) for name, pixels in panels.items()}
    height, width = details["HR"].shape[:2]
    caption = 14
    sheet = Image.new("RGB", (len(panels) * width, 2 * (height + caption)), "white")
    draw = ImageDraw.Draw(sheet)
    for index, (name, detail) in enumerate(details.items()):
        x = index * width
        draw.text((x + 2, 1), name, "black")
        sheet.paste(Image.fromarray(detail), (x, caption))
        if name in results:
            difference = detail.astype(int) - details["Keras"]
            magnified = np.clip(128 + _MAGNIFY * difference, 0, 255).astype(np.uint8)
            draw.text((x + 2, height + caption + 1), f"{_MAGNIFY}x minus Keras", "black")
            sheet.paste(Image.fromarray(magnified), (x, height + 2 * caption))
    return sheet


def _mean_psnr(
    photos: Sequence[ReferencePhoto], results: Sequence[np.ndarray], scale: int
) -> float:
    pairs = zip(photos, results, strict=True)
    return mean_psnr(psnr_y(result, photo.hr, scale) for photo, result in pairs)


def _is_held_out(index: int) -> bool:
    return index % 3 == 2


def _centre(hr: np.ndarray, scale: int, size: tuple[int, int] | None) -> np.ndarray | None:
    """Return a photo's centre, of `size` times the scale if given; None if it is too small."""
    wanted = (scale * size[0], scale * size[1]) if size else (_MAX_SIDE, _MAX_SIDE)
    centre = central_crop(hr, wanted, scale).copy()  # so that the photo is not kept
    smallest = wanted if size else (scale * _MIN_SIDE,) * 2
    large = all(side >= least for side, least in zip(centre.shape, smallest, strict=False))
    return centre if large else None
