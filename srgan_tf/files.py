"""What all who handle files share: the image formats, and writing a file whole."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath

from srgan_tf.errors import RequestError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".jfif", ".webp", ".tif", ".tiff", ".bmp")
FORMATS = {"png": ".png", "jpg": ".jpg", "webp": ".webp", "tiff": ".tif", "bmp": ".bmp"}
_FORMAT_OF = {suffix: name for name, suffix in FORMATS.items()}
_FORMAT_OF |= {".jpeg": "jpg", ".jfif": "jpg", ".tiff": "tiff"}
DEFAULT_QUALITY = 95


@dataclass(frozen=True)
class Output:
    """How results are written.

    Attributes:
        format: one of `FORMATS`; None: each has its input's.
        quality: of JPEG and WebP, 1 to 100.
        strip_metadata: leave out EXIF, XMP and IPTC.
    """

    format: str | None = None
    quality: int = DEFAULT_QUALITY
    strip_metadata: bool = False

    def name(self, name: str) -> str:
        """A result's name for an input's, either with or without folders."""
        suffix = PurePath(name).suffix
        if self.format is None or _FORMAT_OF.get(suffix.lower()) == self.format:
            return name
        return name.removesuffix(suffix) + FORMATS[self.format]


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Gives a temporary path beside `path` that becomes `path` if nothing is raised."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".partial-", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp gives 0o600
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


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
    """Keeps what native code writes to the process' stdout and stderr off the terminal."""
    sys.stdout.flush()
    sys.stderr.flush()
    with tempfile.TemporaryFile() as held:
        saved = [os.dup(1), os.dup(2)]
        try:
            for number in (1, 2):
                os.dup2(held.fileno(), number)
            yield
        finally:
            for number, descriptor in enumerate(saved, 1):
                os.dup2(descriptor, number)
                os.close(descriptor)
