"""Batches of LR and HR crops as pure functions of (seed, step), in NumPy and Pillow."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

import numpy as np
from PIL import Image

from srgan_tf.data.degradation import degrade

if TYPE_CHECKING:
    from srgan_tf.config import DataConfig


_TURNS = (None, Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_180, Image.Transpose.ROTATE_270)


class Photos(Protocol):
    """Photos by index, each uint8 [H, W, 3]."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> np.ndarray: ...


def crop_batch(
    photos: Photos, config: DataConfig, scale: int, seed: int, step: int, crops: range | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Compute the batch of a step, or some crops of it, as a pure function of the arguments.

    Args:
        photos: all with sides of at least `hr_crop` pixels.
        config: the recipe's `data`.
        scale: ratio of HR's side to LR's.
        seed: seed of all batches.
        step: index of the batch, from 0.
        crops: indices of crops in the batch; None for all.

    Returns:
        (lr, hr): uint8 [n, hr_crop/scale, hr_crop/scale, 3] and [n, hr_crop, hr_crop, 3].
    """
    crops = range(config.batch_size) if crops is None else crops
    side = config.hr_crop
    hr = np.empty((len(crops), side, side, 3), np.uint8)
    lr = np.empty((len(crops), side // scale, side // scale, 3), np.uint8)
    for i, crop in enumerate(crops):
        rng = np.random.default_rng((seed, step, crop))
        hr[i] = draw_crop(photos, config, scale, rng)
        lr[i] = degrade(hr[i], scale, config.degradation, rng)
    return lr, hr


def draw_crop(
    photos: Photos, config: DataConfig, scale: int, rng: np.random.Generator
) -> np.ndarray:
    """Draw a crop of a random photo, downscaled, flipped and turned by multiples of 90°.

    Returns:
        uint8 [hr_crop, hr_crop, 3].
    """
    photo = photos[int(rng.integers(len(photos)))]
    crop = config.hr_crop
    side = crop
    if config.min_downscale < 1:
        side = min(round(crop / rng.uniform(config.min_downscale, 1)), *photo.shape[:2])
    candidates = []
    for _ in range(config.crop_attempts):
        y = rng.integers(photo.shape[0] - side + 1)
        x = rng.integers(photo.shape[1] - side + 1)
        candidates.append(photo[y : y + side, x : x + side])
    piece = candidates[0]
    if len(candidates) > 1:
        piece = max(candidates, key=lambda candidate: _detail(candidate, crop // scale))
    image = Image.fromarray(piece)
    if side != crop:
        image = image.resize((crop, crop), Image.Resampling.BICUBIC)
    if rng.integers(2):
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    turn = _TURNS[rng.integers(4)]
    return np.asarray(image if turn is None else image.transpose(turn))


def _detail(piece: np.ndarray, side: int) -> float:
    """Sum the squared differences of neighbouring green pixels at LR's size.

    Finer detail, such as grain and grass, can't be restored from LR.
    """
    green = Image.fromarray(np.ascontiguousarray(piece[..., 1]))
    small = np.asarray(green.resize((side, side), Image.Resampling.BOX), np.float32)
    down, right = small[1:] - small[:-1], small[:, 1:] - small[:, :-1]
    return float(np.vdot(down, down) + np.vdot(right, right))


def validation_crops(
    photos: Photos, config: DataConfig, scale: int, seed: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield each photo's central crop degraded by the recipe, and the crop.

    Args:
        photos: the held-out photos.
        config: the recipe's `data`.
        scale: ratio of HR's side to LR's.
        seed: seed of the degradations.

    Yields:
        (lr, hr), uint8 [h, w, 3] and [scale·h, scale·w, 3].
    """
    for index in range(len(photos)):
        hr = central_crop(photos[index], (config.validation_crop,) * 2, scale)
        yield degrade(hr, scale, config.degradation, np.random.default_rng((seed, index))), hr


def central_crop(photo: np.ndarray, size: tuple[int, int], multiple: int = 1) -> np.ndarray:
    """Return the centre of a photo.

    Args:
        photo: [H, W, C].
        size: largest height and width, in pixels.
        multiple: divisor of the crop's height and width.

    Returns:
        A view [h, w, C].
    """
    height, width = (
        min(most, side) // multiple * multiple
        for most, side in zip(size, photo.shape[:2], strict=True)
    )
    y, x = (photo.shape[0] - height) // 2, (photo.shape[1] - width) // 2
    return photo[y : y + height, x : x + width]
