"""Decoded photos in one memory-mapped file, so that a random crop costs microseconds."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from srgan_tf.data.sources import PhotoSource
from srgan_tf.errors import RequestError
from srgan_tf.files import first_line, is_file


@dataclass(frozen=True)
class PhotoStore:
    """Photos by index, each a uint8 [H, W, 3] view of the memory-mapped file.

    Attributes:
        fingerprint: SHA-256 of the names, shapes and pixels.
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int, int, int], ...]
    offsets: tuple[int, ...]
    pixels: np.ndarray
    fingerprint: str

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> np.ndarray:
        shape, start = self.shapes[index], self.offsets[index]
        return self.pixels[start : start + shape[0] * shape[1] * 3].reshape(shape)


def cache_folder() -> Path:
    """`$SRGAN_TF_CACHE`, else `srgan_tf` in the user's cache folder.

    Raises:
        RequestError: neither is set, and the user has no home folder.
    """
    if folder := os.environ.get("SRGAN_TF_CACHE"):
        return Path(folder)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "srgan_tf"
    except RuntimeError:
        raise RequestError(
            "the user has no home folder to keep a cache in: SRGAN_TF_CACHE=DIR names another"
        ) from None


def writable_cache(part: str) -> Path:
    """A folder within the cache, made.

    Raises:
        RequestError: it can't be written to.
    """
    folder = cache_folder() / part
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise _not_writable(folder, error) from None
    return folder


def _not_writable(folder: Path, error: OSError) -> RequestError:
    return RequestError(
        f"{folder}: can't write the cache ({first_line(error)}); SRGAN_TF_CACHE=DIR moves it"
    )


def open_store(source: PhotoSource, min_side: int) -> PhotoStore:
    """Decodes a source's photos into the cache, or finds them there.

    Args:
        source: the photos.
        min_side: photos with a shorter side, in pixels, are skipped.

    Raises:
        RequestError: no usable photo, or no room for the cache.
    """
    key = hashlib.sha256(f"1\0{source.key}\0{min_side}".encode()).hexdigest()[:24]
    folder = cache_folder() / "photos" / key
    if not is_file(folder / "index.json"):
        try:
            _decode(source, min_side, folder)
        except OSError as error:
            raise _not_writable(folder, error) from error
    index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    for name, reason in index["skipped"]:
        warnings.warn(f"{name}: skipped, {reason}", stacklevel=2)
    if not index["photos"]:
        raise RequestError(f"{source.name}: no usable photo of at least {min_side} pixels a side")
    names, shapes = zip(*((name, tuple(shape)) for name, shape in index["photos"]), strict=True)
    sizes = [height * width * 3 for height, width, _ in shapes]
    offsets = np.concatenate([[0], np.cumsum(sizes[:-1], dtype=np.int64)])
    pixels = np.memmap(folder / "pixels.u8", mode="r", dtype=np.uint8, shape=(sum(sizes),))
    return PhotoStore(names, shapes, tuple(map(int, offsets)), pixels, index["fingerprint"])


def _decode(source: PhotoSource, min_side: int, folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    photos, skipped, digest = [], [], hashlib.sha256()
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".decoding-") as temporary:
        partial = Path(temporary) / "store"
        partial.mkdir()
        with (partial / "pixels.u8").open("wb") as pixels:
            for name, photo in tqdm(
                source.photos(), total=source.count, desc="Decoding photos", unit="photo"
            ):
                if isinstance(photo, Exception):
                    skipped.append((name, f"unreadable ({photo})"))
                elif min(photo.shape[:2]) < min_side:
                    size = f"{photo.shape[1]}×{photo.shape[0]}"
                    skipped.append((name, f"{size} is smaller than {min_side} pixels"))
                else:
                    data = np.ascontiguousarray(photo, np.uint8).tobytes()
                    digest.update(f"{name}{photo.shape}".encode() + data)
                    pixels.write(data)
                    photos.append((name, photo.shape))
        index = {"photos": photos, "skipped": skipped, "fingerprint": digest.hexdigest()}
        (partial / "index.json").write_text(json.dumps(index), encoding="utf-8")
        try:
            partial.rename(folder)
        except OSError:
            if not (folder / "index.json").exists():  # else another process was first
                raise
