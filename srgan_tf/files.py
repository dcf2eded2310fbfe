"""Files: finding images, names of results, and atomic writes."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from srgan_tf.errors import UserError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".jfif", ".webp", ".tif", ".tiff", ".bmp")
READ_SUFFIXES = (*IMAGE_SUFFIXES, ".avif", ".heic", ".heif")
FORMATS = {"png": ".png", "jpg": ".jpg", "webp": ".webp", "tiff": ".tif", "bmp": ".bmp"}
_FORMAT_OF = {suffix: name for name, suffix in FORMATS.items()}
_FORMAT_OF |= {".jpeg": "jpg", ".jfif": "jpg", ".tiff": "tiff"}
DEFAULT_QUALITY = 95
PARTIAL = ".partial-"
# "._": AppleDouble files, in which macOS keeps metadata on foreign file systems.
_NO_IMAGE_PREFIXES = ("._", PARTIAL)


@dataclass(frozen=True)
class Output:
    """How results are written.

    Attributes:
        format: one of `FORMATS`; None keeps each input's format, or PNG if that is not writable.
        quality: of JPEG and WebP, 1 to 100.
        strip_metadata: drop EXIF, XMP and IPTC.
        suffix: inserted before the file extension, such as `-x4`.
    """

    format: str | None = None
    quality: int = DEFAULT_QUALITY
    strip_metadata: bool = False
    suffix: str = ""

    def name(self, name: str) -> str:
        """Return the result's name for an input's name, which may include folders."""
        kind = PurePath(name).suffix
        stem = name.removesuffix(kind) + self.suffix
        written = self.format
        if written is None and kind.lower() in READ_SUFFIXES and kind.lower() not in IMAGE_SUFFIXES:
            written = "png"
        if written is None or _FORMAT_OF.get(kind.lower()) == written:
            return stem + kind
        return stem + FORMATS[written]


def is_image_name(path: str) -> bool:
    """Return whether the suffix of a file's name is that of an image."""
    name = path.rpartition("/")[2]
    return Path(name).suffix.lower() in READ_SUFFIXES and not name.startswith(_NO_IMAGE_PREFIXES)


def find_images(
    folder: Path,
    results: Path | None = None,
    enter: Callable[[Path], bool] = lambda folder: True,
) -> Iterator[tuple[Path, str | None]]:
    """Find the images in a folder and its subfolders, in the order of their paths.

    Links are followed, except to a folder that contains them. Folders, pipes and devices are
    skipped, whatever their names.

    Args:
        folder: where to look.
        results: a subfolder to skip, however its path is spelled.
        enter: called with a subfolder; returns whether to search it.

    Yields:
        (image, None), or (path, reason) for a folder or link that can't be read.
    """
    left_out = None
    if results is not None:
        with suppress(OSError):
            left_out = _identity(results)

    def find(directory: Path, above: tuple) -> Iterator[tuple[Path, str | None]]:
        try:
            here = _identity(directory)
            if here in above or (above and here == left_out):
                return
            with os.scandir(directory) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError as error:
            yield directory, f"can't be read: {first_line(error)}"
            return
        for entry in entries:
            path = directory / entry.name
            try:
                if entry.is_dir():
                    if enter(path) and not entry.name.startswith(PARTIAL):
                        yield from find(path, (*above, here))
                elif is_image_name(entry.name) and stat.S_ISREG(entry.stat().st_mode):
                    yield path, None
            except OSError as error:
                yield path, f"can't be read: {first_line(error)}"

    return find(folder, ())


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def expand_user(text: str) -> Path:
    """Return a path with ~ expanded, which shells don't do in --out=~/results."""
    try:
        return Path(text).expanduser()
    except RuntimeError:  # no such user: take it as a file name
        return Path(text)


def named_path(text: str) -> tuple[str, Path | None]:
    """Split NAME=PATH, with ~ expanded in PATH; the path of a NAME alone is None.

    Raises:
        UserError: an empty name or path.
    """
    name, separator, path = text.partition("=")
    if separator and not (name and path):
        raise UserError(f"{text}: the {'path' if name else 'name'} is missing; give NAME=PATH")
    return name, expand_user(path) if separator else None


def is_folder(path: Path) -> bool | None:
    """Return whether a path is a folder (True) or a file (False); None if it does not exist.

    Raises:
        UserError: a pipe, a device, or a path that is too long or not accessible.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise UserError(f"{path}: can't be read: {first_line(error)}") from None
    if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
        raise UserError(f"{path}: a pipe or device; give a file or folder")
    return stat.S_ISDIR(mode)


def is_file(path: Path) -> bool:
    """Return whether a path is a file; False also if it is not accessible."""
    try:
        return path.is_file()
    except OSError:
        return False


def escape_non_utf8(name: str) -> str:
    """Return a file's name as valid UTF-8: bytes that are not become the text `\\xNN`."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


@contextmanager
def atomic_write(path: Path, mode: int = 0o666) -> Iterator[Path]:
    """Yield a temporary path that is renamed to `path` unless the block raises.

    Args:
        path: the file; its folder is created.
        mode: permissions of the file, reduced by the process' umask.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{PARTIAL}{secrets.token_hex(8)}{path.suffix}")
    # Created with this mode, as some file systems can't change it later.
    temporary.touch(mode, exist_ok=False)
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(folder: Path, mode: int = 0o777) -> Iterator[Path]:
    """Yield a temporary folder that is renamed to `folder` unless the block raises.

    Args:
        folder: must not exist when the block ends, unless it is empty; its parent is created.
        mode: permissions of the folder, reduced by the process' umask.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=PARTIAL) as temporary:
        unfinished = Path(temporary) / "unfinished"
        unfinished.mkdir(mode)
        yield unfinished
        unfinished.rename(folder)


def write_text(path: Path, text: str, mode: int = 0o666) -> None:
    """Write a UTF-8 text file with `atomic_write`."""
    with atomic_write(path, mode) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any, indent: int = 2) -> None:
    """Write a value as a JSON file with `atomic_write`."""
    write_text(path, json.dumps(value, indent=indent) + "\n")


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class TensorFlowPath:
    """A path to a folder without glob characters, which TensorFlow would expand, or backslashes.

    Args:
        folder: created if needed; a path with one of `[ ] * ? \\` is replaced by a link.

    Attributes:
        path: the path to pass to TensorFlow, valid while this object lives.
    """

    def __init__(self, folder: Path):
        self.path = folder
        if any(sign in str(folder) for sign in "[]*?\\"):
            folder.mkdir(parents=True, exist_ok=True)
            self._links = tempfile.TemporaryDirectory()
            self.path = Path(self._links.name) / "folder"
            self.path.symlink_to(folder.resolve(), target_is_directory=True)


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its type's name."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    # libvips keeps its message in `detail`.
    text = str(getattr(error, "detail", error))
    return text.strip().partition("\n")[0] or type(error).__name__


def is_disk_full(error: OSError) -> bool:
    """Return whether there is no space left, on the disk or in the user's quota."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def make_writable_folder(folder: Path) -> None:
    """Create a folder if needed and check that files can be written to it.

    Raises:
        UserError: the folder can't be created or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(f"{folder}: can't be written to ({first_line(error)})") from None
