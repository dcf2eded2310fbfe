"""libvips' settings, and what it does not do: forked processes, and arrays of one grey pixel."""

from __future__ import annotations

import logging
import os
import threading

import numpy as np
import pyvips

LOCK = threading.Lock()
"""For what may fail, as libvips has one error message for all threads."""

# With its cache libvips would return a file's old pixels after it has changed.
pyvips.cache_set_max(0)
# Damage is raised as an error; a warning would repeat it.
logging.getLogger("pyvips").setLevel(logging.ERROR)

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
