"""Makes a study's folder: renders every version, under a file name that says nothing."""

from __future__ import annotations

import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from tqdm import tqdm

from srgan_tf import weights
from srgan_tf.data.degrade import bicubic_downscale, bicubic_upscale
from srgan_tf.data.sources import open_source, read_photo
from srgan_tf.errors import ImageError, RequestError
from srgan_tf.files import IMAGE_SUFFIXES
from srgan_tf.images import write_image
from srgan_tf.inference import Upscaler
from srgan_tf.mos.design import HR, Calibration, Design, Version, order_exists
from srgan_tf.mos.store import Store
from srgan_tf.mos.study import IMAGES, database_url, new_private, write_study

CALIBRATION_IMAGES = 20


@dataclass(frozen=True)
class Pair:
    """A benchmark image: uint8 RGB `hr` [scale·H, scale·W, 3] and `lr` [H, W, 3]."""

    set: str
    image: str
    hr: np.ndarray
    lr: np.ndarray


Renderer = Callable[[Pair], np.ndarray]


def create(
    folder: Path,
    data: Path,
    methods: Mapping[str, Sequence[str]],
    folders: Mapping[str, Path],
    *,
    title: str,
    consent: str,
    calibration: str = "samples",
    calibration_images: int = CALIBRATION_IMAGES,
    ratings_per_rater: int | None = None,
    repeats: int | None = None,
    invitations: int = 0,
    database: str | None = None,
    scale: int = 4,
) -> Design:
    """Makes a study, whole or not at all.

    Args:
        folder: of the study; must not exist.
        data: holds SET/HR/ and, optionally, SET/LRx4/ for each set.
        methods: the methods rated on each set.
        folders: for methods whose images were made elsewhere, their FOLDER/SET/IMAGE.png.
        title, consent: shown to raters; paragraphs of the consent apart by an empty line.
        calibration: what raters are calibrated on, a folder of photos or `samples`.
        calibration_images: how many.
        ratings_per_rater: how many ratings a rater gives, repeats included; None: every
            version once, and the repeats.
        repeats: of HR, given to each rater to measure consistency; None: 10, or a tenth of
            the ratings where this is less.
        invitations: how many codes to make; 0: anyone may join.
        database: a PostgreSQL URL, None for SQLite within the folder.
        scale: of the super-resolution, 2, 4 or 8.

    Raises:
        RequestError: a set, image or method is missing, or the design can't be carried out.
        ImageError: an image can't be read or written.
    """
    if folder.exists():
        raise RequestError(f"{folder}: exists already; a study is made once, in a new folder")
    images = {name: _images_of(data, name) for name in methods}
    names = list(dict.fromkeys(name for listed in methods.values() for name in listed))
    renderers = _open_renderers(names, folders, scale)
    shown = [(name, path.stem) for name in methods for path in images[name] for _ in methods[name]]
    if repeats is None:
        repeats = min(10, (ratings_per_rater or len(shown)) // 10)
    repeats = min(repeats, sum(map(len, images.values())))
    total = len(shown) + repeats
    ratings_per_rater = total if ratings_per_rater is None else ratings_per_rater
    if not repeats < ratings_per_rater <= total:
        raise RequestError(
            f"a rater can give {repeats + 1} to {total} ratings in this study ({len(shown)} "
            f"versions and {repeats} repeats), not {ratings_per_rater}"
        )
    if ratings_per_rater == total and not order_exists(shown):
        raise RequestError(
            "one image has more versions than all others together: no order keeps them apart"
        )

    if database is not None:
        Store(database, "").check_empty()
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".partial-"))
    try:
        versions: list[Version] = []
        pixels_seen: set[bytes] = set()
        with tqdm(total=len(shown), unit="image", disable=None) as progress:
            for pair in _pairs(data, images, scale):
                pixels_seen.add(pair.hr.tobytes())
                for method in methods[pair.set]:
                    pixels = renderers[method](pair)
                    name = _write(temporary, pixels)
                    height, width = pixels.shape[:2]
                    versions.append(
                        Version(
                            id=name,
                            set=pair.set,
                            image=pair.image,
                            method=method,
                            width=width,
                            height=height,
                        )
                    )
                    progress.update()
        design = Design(
            id=secrets.token_hex(16),
            title=title,
            consent=consent,
            scale=scale,
            versions=tuple(versions),
            calibration=tuple(
                _calibration(temporary, calibration, calibration_images, scale, pixels_seen)
            ),
            ratings_per_rater=ratings_per_rater,
            repeats=repeats,
            invitation_only=invitations > 0,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        private = new_private(database)
        write_study(temporary, design, private)
        store = Store(database_url(temporary, private), design.id)
        store.create()
        if invitations:
            store.invite(invitations)
        store.close()
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return design


def available_methods() -> list[str]:
    """Names of the methods whose images can be made here."""
    return ["nearest", "bicubic", *weights.released(), HR]


def _open_renderers(
    names: Sequence[str], folders: Mapping[str, Path], scale: int
) -> dict[str, Renderer]:
    missing = [name for name in names if name not in folders and name not in available_methods()]
    if missing:
        raise RequestError(
            f"can't make the images of {', '.join(missing)}. Give those you have as NAME=FOLDER, "
            "with FOLDER/SET/IMAGE.png, or leave them out: --methods "
            + ",".join(name for name in names if name not in missing)
        )
    for path in folders.values():
        if not path.is_dir():
            raise RequestError(f"{path}: no such folder")
    return {
        name: _from_folder(folders[name]) if name in folders else _renderer(name, scale)
        for name in names
    }


def _renderer(name: str, scale: int) -> Renderer:
    if name == HR:
        return lambda pair: pair.hr
    if name == "nearest":
        return lambda pair: _nearest(pair.lr, scale)
    if name == "bicubic":
        return lambda pair: bicubic_upscale(pair.lr, scale).numpy().astype(np.uint8)
    upscaler = Upscaler(name)
    if upscaler.scale != scale:
        raise RequestError(f"{name}: enlarges ×{upscaler.scale}, not ×{scale}")
    return lambda pair: upscaler.upscale(pair.lr)


def _from_folder(folder: Path) -> Renderer:
    def read(pair: Pair) -> np.ndarray:
        path = _find(folder / pair.set, pair.image)
        pixels = read_photo(path)
        _check_size(path, pixels, pair.hr.shape, 1)
        return pixels

    return read


def _images_of(data: Path, name: str) -> list[Path]:
    """The HR files of a set, by name."""
    folder = data / name / "HR"
    files = sorted(p for p in folder.glob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
    if not files:
        there = sorted(path.parent.name for path in data.glob("*/HR"))
        raise RequestError(
            f"{folder}: no image here; {data} holds the sets {', '.join(there)}"
            if there
            else f"{folder}: no image here; --data DIR holds DIR/SET/HR/*.png"
        )
    return files


def _pairs(data: Path, images: Mapping[str, Sequence[Path]], scale: int) -> Iterator[Pair]:
    for name, files in images.items():
        lr_folder = data / name / f"LRx{scale}"
        for file in files:
            hr = _crop(read_photo(file), scale)
            if lr_folder.is_dir():
                path = _find(lr_folder, file.stem)
                lr = read_photo(path)
                _check_size(path, lr, hr.shape, scale)
            else:
                lr = _degrade(hr, scale)
            yield Pair(name, file.stem, hr, lr)


def _find(folder: Path, stem: str) -> Path:
    for suffix in IMAGE_SUFFIXES:
        path = folder / (stem + suffix)
        if path.is_file():
            return path
    raise RequestError(f"{folder / stem}.png: no such file")


def _check_size(path: Path, pixels: np.ndarray, hr_shape: tuple[int, ...], scale: int) -> None:
    height, width = hr_shape[0] // scale, hr_shape[1] // scale
    if pixels.shape[:2] != (height, width):
        raise RequestError(
            f"{path}: {pixels.shape[1]}×{pixels.shape[0]} pixels, where its HR image asks for "
            f"{width}×{height}"
        )


def _calibration(
    folder: Path, source: str, number: int, scale: int, tested: set[bytes]
) -> Iterator[Calibration]:
    """Nearest neighbour, which shows what 1 means, and HR, which shows what 5 means."""
    photos = list(_calibration_photos(source, number, scale))
    if len(photos) < number:
        raise RequestError(
            f"{source}: {len(photos)} calibration images, not {number}; "
            f"--calibration-images {len(photos)} takes these"
        )
    for hr in photos:
        if hr.tobytes() in tested:
            raise RequestError(f"{source}: holds an image of a test set; calibrate on others")
        yield Calibration(
            bad=_write(folder, _nearest(_degrade(hr, scale), scale)),
            excellent=_write(folder, hr),
            width=hr.shape[1],
            height=hr.shape[0],
        )


def _calibration_photos(source: str, number: int, scale: int) -> Iterator[np.ndarray]:
    photos: list[np.ndarray] = []
    for name, pixels in open_source(source).photos():
        if isinstance(pixels, Exception):
            raise ImageError(f"{source}: {name}: {pixels}")
        photos.append(pixels)
        if len(photos) == number:
            break
    while source == "samples" and len(photos) < number:
        # There are six: the largest are halved until there are enough.
        photos.sort(key=lambda pixels: pixels.size)
        photos += _halves(photos.pop())
    return (_crop(pixels, scale) for pixels in photos)


def _halves(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    axis = int(pixels.shape[1] > pixels.shape[0])
    first, second = np.array_split(pixels, 2, axis)
    return first, second


def _crop(pixels: np.ndarray, scale: int) -> np.ndarray:
    height, width = (side - side % scale for side in pixels.shape[:2])
    return np.ascontiguousarray(pixels[:height, :width])


def _degrade(hr: np.ndarray, scale: int) -> np.ndarray:
    return bicubic_downscale(hr, scale).numpy().astype(np.uint8)


def _nearest(lr: np.ndarray, scale: int) -> np.ndarray:
    return lr.repeat(scale, axis=0).repeat(scale, axis=1)


def _write(folder: Path, pixels: np.ndarray) -> str:
    """Writes pixels, and nothing else of where they came from; returns the file's id."""
    name = secrets.token_hex(16)
    write_image(folder / IMAGES / f"{name}.png", pixels)
    return name
