"""The cache folder: decoded photos, scores of evaluations and files of the demo."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from srgan_tf.errors import UserError
from srgan_tf.files import first_line


def cache_folder() -> Path:
    """Return `$SRGAN_TF_CACHE` or, if it is not set, `srgan_tf` in the user's cache folder.

    Raises:
        UserError: it is not set, and the user has no home folder.
    """
    if folder := os.environ.get("SRGAN_TF_CACHE"):
        return Path(folder)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "srgan_tf"
    except RuntimeError:
        raise UserError(
            "no home folder to keep a cache in: set SRGAN_TF_CACHE=DIR to another folder"
        ) from None


def writable_cache(part: str) -> Path:
    """Create a folder in the cache and return its path.

    Raises:
        UserError: the folder can't be written to.
    """
    folder = cache_folder() / part
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise cache_error(folder, error) from None
    return folder


def cache_error(folder: Path, error: OSError) -> UserError:
    """Return the error to raise if a folder of the cache can't be written to."""
    return UserError(
        f"{folder}: can't write the cache ({first_line(error)}); set SRGAN_TF_CACHE=DIR to move it"
    )
