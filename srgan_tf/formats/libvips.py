"""libvips' settings, and what it does not do: forked processes, and arrays of one grey pixel.

Import pyvips from here, as it reads the first setting when it is imported.
"""

from __future__ import annotations

import os
import threading

# Damage is raised as an error; a warning would repeat it.
os.environ["VIPS_WARNING"] = "0"  # any value disables them

import numpy as np
import pyvips

# Its handler of log messages is Python code, in which Ctrl-C would be lost.
pyvips._remove_log_handler()

LOCK = threading.Lock()
"""For what may fail, as libvips has one error message for all threads."""

# With its cache libvips would return a file's old pixels after it has changed.
pyvips.cache_set_max(0)

_used = _without_threads = False


def check_process() -> None:
    """Check that libvips has its threads; call this before using it.

    Raises:
        RuntimeError: this process was forked after libvips was used, which would wait forever.
    """
    global _used
    if _without_threads:
        raise RuntimeError(
            "libvips does not work in a process that was forked after it was used: start processes "
            'by multiprocessing.get_context("spawn") or "forkserver"'
        )
    _used = True


def _after_fork() -> None:
    global _without_threads
    _without_threads = _used


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def to_array(image: pyvips.Image) -> np.ndarray:
    """Return an image's pixels as [H, W] or [H, W, C]."""
    pixels = image.numpy()  # a scalar for one grey pixel
    return pixels.reshape(image.height, image.width, *pixels.shape[2:])
