"""What all who handle files share: finding images, writing a file whole, names, messages."""

from __future__ import annotations

import os
import secrets
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePath

from srgan_tf.errors import RequestError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".jfif", ".webp", ".tif", ".tiff", ".bmp")
READ_SUFFIXES = (*IMAGE_SUFFIXES, ".avif", ".heic", ".heif")
FORMATS = {"png": ".png", "jpg": ".jpg", "webp": ".webp", "tiff": ".tif", "bmp": ".bmp"}
_FORMAT_OF = {suffix: name for name, suffix in FORMATS.items()}
_FORMAT_OF |= {".jpeg": "jpg", ".jfif": "jpg", ".tiff": "tiff"}
DEFAULT_QUALITY = 95
_PARTIAL = ".partial-"
# AppleDouble: what macOS keeps of a file where the file system has no place for it.
_NO_IMAGE_PREFIXES = ("._", _PARTIAL)

# Prints what was held back once its stdin ends: when the process that held it back is no more.
_HOLDER = "import sys; sys.stderr.buffer.write(sys.stdin.buffer.read())"
_HOLDING = threading.RLock()


@dataclass(frozen=True)
class Output:
    """How results are written.

    Attributes:
        format: one of `FORMATS`; None: each has its input's, and PNG where that is not written.
        quality: of JPEG and WebP, 1 to 100.
        strip_metadata: leave out EXIF, XMP and IPTC.
        suffix: behind the names of results, before that of the format, such as `-x4`.
    """

    format: str | None = None
    quality: int = DEFAULT_QUALITY
    strip_metadata: bool = False
    suffix: str = ""

    def name(self, name: str) -> str:
        """A result's name for an input's, either with or without folders."""
        kind = PurePath(name).suffix
        stem = name.removesuffix(kind) + self.suffix
        written = self.format
        if written is None and kind.lower() in READ_SUFFIXES and kind.lower() not in IMAGE_SUFFIXES:
            written = "png"
        if written is None or _FORMAT_OF.get(kind.lower()) == written:
            return stem + kind
        return stem + FORMATS[written]


def is_image_name(path: str) -> bool:
    """Whether a file of this name is taken for an image, by its suffix."""
    name = path.rpartition("/")[2]
    return Path(name).suffix.lower() in READ_SUFFIXES and not name.startswith(_NO_IMAGE_PREFIXES)


def find_images(
    folder: Path,
    results: Path | None = None,
    enter: Callable[[Path], bool] = lambda folder: True,
) -> Iterator[tuple[Path, str | None]]:
    """Finds the images in a folder and its subfolders, in the order of their paths.

    Links are followed, but not to a folder that they are in. Folders, pipes and devices are no
    images, whatever their names.

    Args:
        folder: where to look.
        results: a folder within, which is left out however its path is spelled.
        enter: says of a subfolder whether to look into it.

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
                    if enter(path):
                        yield from find(path, (*above, here))
                elif is_image_name(entry.name) and stat.S_ISREG(entry.stat().st_mode):
                    yield path, None
            except OSError as error:
                yield path, f"can't be read: {first_line(error)}"

    return find(folder, ())


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def is_folder(path: Path) -> bool | None:
    """Whether a path is a folder (True) or a file (False); None: there is nothing.

    Raises:
        RequestError: a pipe, a device, or a path that one may not look at or that is too long.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise RequestError(f"{path}: can't be read: {first_line(error)}") from None
    if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
        raise RequestError(f"{path}: a pipe or device; files and folders can be read")
    return stat.S_ISDIR(mode)


def is_file(path: Path) -> bool:
    """Whether a path is a file; False also where one may not look."""
    try:
        return path.is_file()
    except OSError:
        return False


def readable(name: str) -> str:
    """A name as text that any file or program takes: bytes that aren't UTF-8 as `\\xNN`."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


@contextmanager
def written_whole(path: Path, mode: int = 0o666) -> Iterator[Path]:
    """Gives a temporary path beside `path` that becomes `path` if nothing is raised.

    Args:
        path: of the file; its folder is made.
        mode: of a new file, less the process' umask.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{_PARTIAL}{secrets.token_hex(8)}{path.suffix}")
    # Made with its mode, as not all file systems can change it.
    temporary.touch(mode, exist_ok=False)
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


class TensorFlowPath:
    """A folder's path that TensorFlow takes for what it is, and not for a pattern.

    Args:
        folder: is made; with one of `[ ] * ?` in its path, it is reached by a link.

    Attributes:
        path: as TensorFlow is to be given it, as long as this object lives.
    """

    def __init__(self, folder: Path):
        self.path = folder
        if any(sign in str(folder) for sign in "[]*?\\"):
            folder.mkdir(parents=True, exist_ok=True)
            self._links = tempfile.TemporaryDirectory()
            self.path = Path(self._links.name) / "folder"
            self.path.symlink_to(folder.resolve(), target_is_directory=True)


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its type's name."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    # libvips keeps its message in `detail`.
    text = str(getattr(error, "detail", error))
    return text.strip().partition("\n")[0] or type(error).__name__


def make_writable_folder(folder: Path) -> None:
    """Makes a folder if it isn't there, and sees that files can be written to it.

    Raises:
        RequestError: they can't.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise RequestError(f"{folder}: can't be written to ({first_line(error)})") from None


@contextmanager
def native_messages_held_back() -> Iterator[None]:
    """Keeps what native code writes to the process' stderr off the terminal.

    Where the process does not live to the end of the block, what it wrote is printed. Other
    threads' messages are held back, too: for commands, not for a library's functions.
    """
    with _HOLDING:
        try:
            holder = subprocess.Popen(
                [sys.executable, "-ISc", _HOLDER],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is not for it
            )
        except OSError:  # no more processes: then the messages are seen
            yield
            return
        assert holder.stdin is not None
        if sys.stderr is not None:
            sys.stderr.flush()
        with holder.stdin:
            terminal = os.dup(2)
            os.dup2(holder.stdin.fileno(), 2)
            try:
                yield
            finally:
                os.dup2(terminal, 2)
                os.close(terminal)
                holder.kill()
                holder.wait()
