"""Decoded photos in the cache: one memory-mapped file, from which a crop takes microseconds."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import warnings
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from srgan_tf.cache import cache_error, cache_folder
from srgan_tf.errors import UserError
from srgan_tf.files import atomic_folder, is_file

if TYPE_CHECKING:
    from srgan_tf.config import DataConfig

_MIN_SIDE = 32
"""Smallest side of a photo, on which SSIM can be computed at every scale."""
_FORMAT = 2
"""Version of the files in the cache, which is part of their folders' names."""


@dataclass(frozen=True)
class PhotoSource:
    """HR photos that can be read one after the other.

    Attributes:
        name: as given by the user.
        cache_key: changes whenever the photos may have changed.
        count: number of photos; None if unknown.
        photos: returns an iterator of (name, uint8 [H, W, 3]), or (name, Exception) for a photo
            that can't be read.
    """

    name: str
    cache_key: str
    count: int | None
    photos: Callable[[], Iterator[tuple[str, np.ndarray | Exception]]]


@dataclass(frozen=True)
class PhotoStore:
    """Photos by index, each a uint8 [H, W, 3] view of a memory-mapped file.

    Attributes:
        names, shapes, offsets: name, shape, and index of the first byte in `pixels`, per photo.
        pixels: uint8 [N], all photos of the source.
        fingerprint: SHA-256 of the names, shapes and pixels of all photos of the source.
        open: opens the same photos in another process.
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int, int, int], ...]
    offsets: tuple[int, ...]
    pixels: np.ndarray
    fingerprint: str
    open: Callable[[], PhotoStore]

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> np.ndarray:
        shape, start = self.shapes[index], self.offsets[index]
        return self.pixels[start : start + shape[0] * shape[1] * 3].reshape(shape)

    def subset(self, indices: list[int]) -> PhotoStore:
        """Return a store of the photos at these indices, in the order given."""
        return PhotoStore(
            tuple(self.names[i] for i in indices),
            tuple(self.shapes[i] for i in indices),
            tuple(self.offsets[i] for i in indices),
            self.pixels,
            self.fingerprint,
            partial(_subset, self.open, indices),
        )


def _subset(open_store: Callable[[], PhotoStore], indices: list[int]) -> PhotoStore:
    return open_store().subset(indices)


def split_photos(store: PhotoStore, config: DataConfig, seed: int) -> tuple[PhotoStore, PhotoStore]:
    """Split photos into those to train on and those held out for validation.

    Which photos are held out depends on the seed and their names only: recipes with the same photos
    and seed hold out the same ones, whatever the size of their crops. At most a fifth is held out;
    a single photo is in both parts.

    Args:
        store: all photos.
        config: the recipe's `data`.
        seed: the recipe's.

    Returns:
        (training photos, held-out photos), without those that have a side of fewer than `hr_crop`
        or 32 pixels.

    Raises:
        UserError: no photo is large enough.
    """
    order = sorted(store.names, key=lambda name: zlib.crc32(f"{seed} {name}".encode()))
    held_out = set(order[: min(config.validation_photos, len(order) // 5) or 1])
    least = max(config.hr_crop, _MIN_SIDE)
    large = [i for i, shape in enumerate(store.shapes) if min(shape[:2]) >= least]
    if not large:
        raise UserError(
            f"{config.source}: no photo has sides of at least {least} pixels; give larger photos"
            + (" or lower data.hr_crop" if least > _MIN_SIDE else "")
        )
    train = [i for i in large if store.names[i] not in held_out]
    validate = [i for i in large if store.names[i] in held_out]
    return store.subset(train or large), store.subset(validate or large[:1])


def files_key(root: Path, files: list[Path]) -> str:
    """Return a hash of files' names relative to a folder, sizes and modification times."""
    digest = hashlib.sha256()
    for path in files:
        status = path.stat()
        line = f"{path.relative_to(root).as_posix()}\0{status.st_size}\0{status.st_mtime_ns}\n"
        digest.update(os.fsencode(line))
    return digest.hexdigest()


def open_store(source: PhotoSource) -> PhotoStore:
    """Open a source's photos, decoding them into the cache unless they are there.

    Warns of photos that can't be read.

    Raises:
        UserError: no photo can be read, or the cache can't be written to.
    """
    key = hashlib.sha256(f"{_FORMAT}\0{source.cache_key}".encode()).hexdigest()[:24]
    folder = cache_folder() / "photos" / key
    exists = is_file(folder / "index.json")
    try:
        store = read_store(folder)
    except (OSError, ValueError, KeyError, TypeError):
        try:
            if exists:  # damaged
                shutil.rmtree(folder, ignore_errors=True)
            _decode(source, folder)
        except OSError as error:
            if not is_file(folder / "index.json"):  # otherwise another process was first
                raise cache_error(folder, error) from error
        store = read_store(folder)
    index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    for name, reason in index["skipped"]:
        warnings.warn(f"{name}: skipped, {reason}", stacklevel=2)
    if not len(store):
        raise UserError(f"{source.name}: no readable photo; the warnings above say why")
    return store


def read_store(folder: Path) -> PhotoStore:
    """Open the decoded photos in a folder of the cache."""
    index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    names = tuple(name for name, _ in index["photos"])
    shapes = tuple(tuple(shape) for _, shape in index["photos"])
    sizes = [height * width * 3 for height, width, _ in shapes]
    offsets = tuple(int(end) - size for end, size in zip(np.cumsum(sizes), sizes, strict=True))
    pixels = np.zeros(0, np.uint8)
    if sizes:
        pixels = np.memmap(folder / "pixels.u8", mode="r", dtype=np.uint8, shape=(sum(sizes),))
        pixels = pixels.view(np.ndarray)  # a memmap's slices cost more
    return PhotoStore(
        names, shapes, offsets, pixels, index["fingerprint"], partial(read_store, folder)
    )


def _decode(source: PhotoSource, folder: Path) -> None:
    """Decode a source's photos into a new folder of the cache, atomically."""
    photos, skipped, digest = [], [], hashlib.sha256()
    with atomic_folder(folder) as unfinished:
        with (unfinished / "pixels.u8").open("wb") as pixels:
            for name, photo in tqdm(
                source.photos(), total=source.count, desc="Decoding photos", unit="photo"
            ):
                if isinstance(photo, Exception):
                    skipped.append((name, f"unreadable ({photo})"))
                else:
                    data = np.ascontiguousarray(photo, np.uint8).tobytes()
                    digest.update(f"{name}{photo.shape}".encode() + data)
                    pixels.write(data)
                    photos.append((name, photo.shape))
        index = {"photos": photos, "skipped": skipped, "fingerprint": digest.hexdigest()}
        (unfinished / "index.json").write_text(json.dumps(index), encoding="utf-8")
