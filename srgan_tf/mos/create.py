"""Creation of a study's folder, with every version under an anonymous file name."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from srgan_tf.data.sources import open_source
from srgan_tf.errors import ImageError, UserError
from srgan_tf.evaluation.methods import LABELS, Method, check_names, open_methods
from srgan_tf.evaluation.sets import open_sets
from srgan_tf.files import atomic_folder, is_folder, make_writable_folder
from srgan_tf.mos.database import MAX_INVITATIONS, Database
from srgan_tf.mos.design import Calibration, Design, Version, order_exists
from srgan_tf.mos.study import IMAGES, database_url, new_private, write_study
from srgan_tf.resize import bicubic_downscale, nearest_upscale

CALIBRATION_IMAGES = 20


def create(
    folder: Path,
    data: Path,
    methods: Mapping[str, Sequence[str]],
    paths: Mapping[str, Path],
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
    """Create a study atomically.

    Args:
        folder: of the study; must not exist.
        data: folder with SET/HR/ and, optionally, SET/LRx4/ for each set.
        methods: the methods to rate on each set.
        paths: for methods that are not released, a model, or a folder with their results,
            FOLDER/SET/IMAGE.png.
        title, consent: shown to raters; paragraphs of the consent are separated by empty lines.
        calibration: photos for calibrating raters, a folder or `samples`.
        calibration_images: number of these photos.
        ratings_per_rater: number of ratings per rater, repeats included; None for every version
            once, and the repeats.
        repeats: number of HR images each rater sees twice, to measure consistency; None for 10, or
            a tenth of the ratings if that is less.
        invitations: number of invitation codes; 0 lets anyone join.
        database: a PostgreSQL URL; None for SQLite within the folder.
        scale: of the super-resolution, 2, 4 or 8.

    Raises:
        UserError: a set, image or method is missing, the design is impossible, or the folder can't
            be created.
        ImageError: an image can't be read.
    """
    if is_folder(folder) is not None:
        raise UserError(f"{folder}: exists already; give a new folder")
    if repeats is not None and repeats < 0:
        raise UserError(f"repeats must be at least 0, not {repeats}")
    if calibration_images < 1:
        raise UserError(f"calibration images must be at least 1, not {calibration_images}")
    if invitations > MAX_INVITATIONS:
        raise UserError(f"invitations must be at most {MAX_INVITATIONS}, not {invitations}")
    images = open_sets(data, list(methods), scale)
    names = list(dict.fromkeys(name for listed in methods.values() for name in listed))
    opened = _open_methods(names, paths, scale)
    check_names(opened.values())
    shown = [
        (name, image.name) for name in methods for image in images[name] for _ in methods[name]
    ]
    if repeats is None:
        repeats = min(10, (ratings_per_rater or len(shown)) // 10)
    repeats = min(repeats, sum(map(len, images.values())))
    total = len(shown) + repeats
    ratings_per_rater = total if ratings_per_rater is None else ratings_per_rater
    if not repeats < ratings_per_rater <= total:
        raise UserError(
            f"ratings per rater must be from {repeats + 1} to {total} in this study ({len(shown)} "
            f"versions and {repeats} repeats), not {ratings_per_rater}"
        )
    if ratings_per_rater == total and not order_exists(shown):
        raise UserError(
            "one image has more versions than all others together, so no order can separate them; "
            "add images or drop methods"
        )

    examples = _calibration_photos(calibration, calibration_images, scale)
    known = {pixels.tobytes() for pixels in examples}
    for image in itertools.chain(*images.values()):
        if image.load()[1].tobytes() in known:
            raise UserError(f"{calibration}: contains {image.full_name}; calibrate on others")
    if database is not None:
        Database(database, "").check_empty()
    make_writable_folder(folder.parent)
    with atomic_folder(folder, mode=0o700) as temporary:
        (temporary / IMAGES).mkdir()
        versions: list[Version] = []
        with tqdm(total=len(shown), unit="image", disable=None) as progress:
            for image in itertools.chain(*images.values()):
                lr, hr = image.load()
                for method in methods[image.set]:
                    pixels = opened[method].enlarge(image, lr, hr)
                    height, width = pixels.shape[:2]
                    versions.append(
                        Version(
                            id=_write(temporary, pixels),
                            set=image.set,
                            image=image.name,
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
            calibration=tuple(_calibration(temporary, hr, scale) for hr in examples),
            ratings_per_rater=ratings_per_rater,
            repeats=repeats,
            invitation_only=invitations > 0,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        private = new_private(database)
        write_study(temporary, design, private)
        ratings = Database(database_url(temporary, private), design.id)
        ratings.create()
        if invitations:
            ratings.invite(invitations)
        ratings.close()
    return design


def _open_methods(names: Sequence[str], paths: Mapping[str, Path], scale: int) -> dict[str, Method]:
    opened, missing = {}, {}
    for name in names:
        try:
            opened[name] = _open_method(name, paths.get(name), scale)
        except UserError as error:
            missing[name] = str(error)
    if missing:
        others = ",".join(f"{name}={paths[name]}" if name in paths else name for name in opened)
        raise UserError(
            "these methods are not available:\n  "
            + "\n  ".join(missing.values())
            + "\nGive the results of other programs as NAME=FOLDER, with FOLDER/SET/IMAGE.png"
            + (f", or rate the others:\n  --methods {others}" if others else "")
        )
    return opened


def _open_method(name: str, path: Path | None, scale: int) -> Method:
    if path is None:
        return open_methods([name], scale)[0][0]
    # Under any name, so that results of another SRCNN can be rated as srcnn.
    method = open_methods([f"_={path}"], scale)[0][0]
    method.name, method.label = name, LABELS.get(name, name)
    return method


def _calibration(folder: Path, hr: np.ndarray, scale: int) -> Calibration:
    """Write a photo enlarged by nearest neighbour, an example of 1, and HR, an example of 5."""
    return Calibration(
        bad=_write(folder, nearest_upscale(bicubic_downscale(hr, scale), scale)),
        excellent=_write(folder, hr),
        width=hr.shape[1],
        height=hr.shape[0],
    )


def _calibration_photos(source: str, number: int, scale: int) -> list[np.ndarray]:
    """Return the first photos of a source; of `samples`, also parts of them. Raises UserError."""
    photos: list[np.ndarray] = []
    for name, pixels in open_source(source).photos():
        if isinstance(pixels, Exception):
            raise ImageError(f"{source}: {name}: {pixels}")
        photos.append(pixels)
        if len(photos) == number:
            break
    while source == "samples" and len(photos) < number:
        # Halve the largest until there are enough.
        photos.sort(key=lambda pixels: pixels.size)
        photos += _halves(photos.pop())
    if len(photos) < number:
        raise UserError(
            f"{source}: {len(photos)} calibration images, not {number}; give more photos or "
            f"--calibration-images {len(photos)}"
        )
    return [_crop(pixels, scale) for pixels in photos]


def _halves(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    axis = int(pixels.shape[1] > pixels.shape[0])
    first, second = np.array_split(pixels, 2, axis)
    return first, second


def _crop(pixels: np.ndarray, scale: int) -> np.ndarray:
    height, width = (side - side % scale for side in pixels.shape[:2])
    return np.ascontiguousarray(pixels[:height, :width])


def _write(folder: Path, pixels: np.ndarray) -> str:
    """Write pixels without metadata under a random id, and return the id."""
    name = secrets.token_hex(16)
    # libvips would write the resolution as EXIF.
    Image.fromarray(pixels).save(folder / IMAGES / f"{name}.png")
    return name
