"""Benchmark sets: folders of HR photos and, optionally, of their LR versions."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from srgan_tf.errors import ImageError, UserError
from srgan_tf.evaluation.degradations import CLEAN, Degradation
from srgan_tf.files import escape_non_utf8, is_file, is_image_name
from srgan_tf.images import read_photo
from srgan_tf.resize import bicubic_downscale

_USUAL_ORDER = ("Set5", "Set14", "BSD100")


@dataclass(frozen=True)
class BenchmarkImage:
    """An image of a benchmark set.

    Attributes:
        set: name of the set: SET, or SET-DEGRADATION if LR is degraded.
        name: of the files, without the suffix.
        hr_file: the photo.
        lr_file: its LR version; None for bicubic downscaling.
        scale: ratio of HR's side to LR's.
        degradation: of LR.
    """

    set: str
    name: str
    hr_file: Path
    lr_file: Path | None
    scale: int
    degradation: Degradation = CLEAN

    @property
    def full_name(self) -> str:
        """Name of the image with its set, SET/NAME."""
        return f"{self.set}/{self.name}"

    @property
    def clean_set(self) -> str:
        """Name of the set without the degradation."""
        if self.degradation == CLEAN:
            return self.set
        return self.set.removesuffix(f"-{self.degradation.name}")

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the image's files, the scale and the degradation."""
        digest = hashlib.sha256(os.fsencode(f"{self.scale}\0{self._seed}\0{self.degradation}\0"))
        for file in (self.hr_file, self.lr_file):
            digest.update(hashlib.sha256(file.read_bytes()).digest() if file else b"made")
        return digest.hexdigest()

    @property
    def _seed(self) -> str:
        return (self.lr_file or self.hr_file).name

    def load(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the degraded LR and HR, uint8 [h, w, 3] and [scale·h, scale·w, 3].

        HR is cropped at the right and the bottom to the part that LR covers.

        Raises:
            ImageError: a file can't be read, or the sizes don't match.
        """
        lr, hr = self._load_clean()
        return self.degradation(lr, self._seed), hr

    def _load_clean(self) -> tuple[np.ndarray, np.ndarray]:
        hr = read_photo(self.hr_file)
        if self.lr_file is None:
            height, width = (side // self.scale * self.scale for side in hr.shape[:2])
            hr = hr[:height, :width]
            if not hr.size:
                raise ImageError(f"{self.hr_file}: smaller than {self.scale}×{self.scale} pixels")
            return bicubic_downscale(hr, self.scale), hr
        lr = read_photo(self.lr_file)
        height, width = (self.scale * side for side in lr.shape[:2])
        spare = (hr.shape[0] - height, hr.shape[1] - width)
        if not all(0 <= pixels < self.scale for pixels in spare):
            raise ImageError(
                f"{self.lr_file}: {lr.shape[1]}×{lr.shape[0]} pixels, {self.hr_file} has "
                f"{hr.shape[1]}×{hr.shape[0]}: not {self.scale} times as many"
            )
        return lr, hr[:height, :width]


def open_sets(
    data: Path,
    names: list[str] | None,
    scale: int,
    degradations: Sequence[Degradation] = (CLEAN,),
) -> dict[str, list[BenchmarkImage]]:
    """Return the images of benchmark sets, SET/HR/* and, optionally, SET/LRx4/*.

    Args:
        data: the folder of the sets.
        names: of the sets; None for all.
        scale: 2, 4 or 8, as in the name of the LR folder.
        degradations: of LR; each set is returned with each, as SET-DEGRADATION unless clean.

    Raises:
        UserError: no such folder or set, no image in it, an LR version is missing, or two images
            of a set or two of the returned sets have the same name.
    """
    if not data.is_dir():
        raise UserError(f"{data}: no such folder; it should contain SET/HR/*.png")
    folders = {escape_non_utf8(path.name): path for path in sorted(data.iterdir()) if _is_set(path)}
    present = list(folders)
    present.sort(key=lambda name: _USUAL_ORDER.index(name) if name in _USUAL_ORDER else 9)
    if not present:
        raise UserError(f"{data}: no benchmark set here; it should contain SET/HR/*.png")
    names = [escape_non_utf8(name) for name in names or present]
    for name in names:
        if name not in present:
            raise UserError(f"{data / name}: no such set; --sets takes {', '.join(present)}")
    sets: dict[str, list[BenchmarkImage]] = {}
    for name in dict.fromkeys(names):
        for degradation in dict.fromkeys(degradations):
            images = _open_set(name, folders[name], scale, degradation)
            label = images[0].set
            if label in sets:
                raise UserError(
                    f"{label}: stands for {_origin(sets[label][0])} and for {_origin(images[0])}; "
                    "rename a set's folder, or choose others with --sets or --degrade"
                )
            sets[label] = images
    return sets


def _is_set(folder: Path) -> bool:
    try:
        return (folder / "HR").is_dir()
    except OSError:  # not accessible, such as lost+found
        return False


def _origin(image: BenchmarkImage) -> str:
    return f"the set {image.clean_set} with {image.degradation.name} LR"


def _open_set(
    name: str, folder: Path, scale: int, degradation: Degradation
) -> list[BenchmarkImage]:
    hr, lr = _images(folder / "HR"), _images(folder / f"LRx{scale}")
    if not hr:
        raise UserError(f"{folder / 'HR'}: no image in this folder")
    missing = [stem for stem in hr if stem not in lr]
    if lr and missing:
        raise UserError(f"{folder / f'LRx{scale}'}: {missing[0]} is missing; HR has it")
    label = name if degradation == CLEAN else f"{name}-{degradation.name}"
    return [
        BenchmarkImage(label, stem, file, lr.get(stem), scale, degradation)
        for stem, file in hr.items()
    ]


def _images(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        return {}
    images: dict[str, Path] = {}
    for file in sorted(p for p in folder.iterdir() if is_image_name(p.name) and is_file(p)):
        other = images.setdefault(escape_non_utf8(file.stem), file)
        if other != file:
            raise UserError(
                f"{folder}: {other.name} and {file.name} have the same name; rename or remove one"
            )
    return images
