"""Batches made by several processes, in order."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from srgan_tf.data.crops import Photos, crop_batch

if TYPE_CHECKING:
    from srgan_tf.config import DataConfig

Pair = tuple[np.ndarray, np.ndarray]

_photos: Photos


def available_cores() -> int:
    """Count the processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def load_batches(
    open_photos: Callable[[], Photos],
    config: DataConfig,
    scale: int,
    seed: int,
    elements: Iterable[tuple[int, range]],
    processes: int,
) -> Iterator[Pair]:
    """Yield `crop_batch` of each (step, crops), computed ahead of time by other processes.

    Args:
        open_photos: opens the photos, in each of the processes: a function that can be pickled.
        config: the recipe's `data`.
        scale: how many times smaller LR is.
        seed: the recipe's.
        elements: the steps and which crops of their batches.
        processes: how many compute at once; each is four batches ahead.
    """
    context = multiprocessing.get_context("spawn")  # a fork would copy TensorFlow's locks
    pool = ProcessPoolExecutor(processes, context, initializer=_start, initargs=(open_photos,))
    waiting: deque[Future[Pair]] = deque()
    # Read by NumPy when it is imported: threads cost more than they give with small matrices.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        for step, crops in elements:
            waiting.append(pool.submit(_make, config, scale, seed, step, crops))
            if len(waiting) >= 4 * processes:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _start(open_photos: Callable[[], Photos]) -> None:
    global _photos
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when to stop
    _photos = open_photos()
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()  # else the killed run's processes would wait for work forever
    os._exit(0)


def _make(config: DataConfig, scale: int, seed: int, step: int, crops: range) -> Pair:
    return crop_batch(_photos, config, scale, seed, step, crops)
