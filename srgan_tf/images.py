"""Arrays to image files, and the models' value range to grey levels."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image


def to_uint8(images) -> tf.Tensor:
    """Models' output, float in [-1, 1], to the nearest grey levels, uint8, clipped."""
    return tf.cast(tf.clip_by_value(tf.round((images + 1.0) * 127.5), 0.0, 255.0), tf.uint8)


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


def write_image(path: Path, pixels: np.ndarray) -> None:
    """Writes uint8 [H, W, 3] or [H, W] in the format of the path's suffix, whole or not at all."""
    with written_whole(path) as temporary:
        Image.fromarray(pixels).save(temporary)
