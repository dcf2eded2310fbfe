"""Batches prefetched by several processes, in order."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing.shared_memory import SharedMemory
from typing import TYPE_CHECKING

import numpy as np

from srgan_tf.data.crops import Photos, crop_batch
from srgan_tf.errors import UserError

if TYPE_CHECKING:
    from srgan_tf.config import DataConfig

Pair = tuple[np.ndarray, np.ndarray]

PREFETCH = 4
"""Number of prefetched batches per process."""
SHARED_MEMORY = "/dev/shm"

_photos: Photos
_memory: SharedMemory


def load_batches(
    open_photos: Callable[[], Photos],
    config: DataConfig,
    scale: int,
    seed: int,
    elements: Iterable[tuple[int, range]],
    processes: int,
) -> Generator[Pair, None, None]:
    """Yield `crop_batch` of each (step, crops), prefetched by other processes.

    Args:
        open_photos: opens the photos in each process; must be picklable.
        config: the recipe's `data`.
        scale: ratio of HR's side to LR's.
        seed: seed of all batches.
        elements: (step, crops) of each batch, as arguments of `crop_batch`.
        processes: number of processes.

    Yields:
        (lr, hr): see `crop_batch`.

    Raises:
        UserError: the shared memory is too small.
    """
    # Shared memory, as a pipe would transfer the pixels in pieces that each wait for the GIL.
    largest = sum(_bytes(config, scale, config.batch_size))
    slots = _count_slots(PREFETCH * processes, largest)
    memory = SharedMemory(create=True, size=slots * largest)
    context = multiprocessing.get_context("spawn")  # a fork would copy locked mutexes of TensorFlow
    pool = ProcessPoolExecutor(
        processes, context, initializer=_initialize, initargs=(open_photos, memory.name)
    )
    # NumPy reads this when a process imports it: with small matrices threads cost more than they
    # save.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    waiting: deque[tuple[Future[None], int, int]] = deque()

    def take() -> Pair:
        future, start, count = waiting.popleft()
        future.result()
        lr, hr = _views(memory, start, config, scale, count)
        return lr.copy(), hr.copy()

    try:
        for number, (step, crops) in enumerate(elements):
            if len(waiting) == slots:
                yield take()
            start = number % slots * largest
            future = pool.submit(_write_batch, start, config, scale, seed, step, crops)
            waiting.append((future, start, len(crops)))
        while waiting:
            yield take()
    finally:
        workers = list(pool._processes.values())
        pool.shutdown(wait=False, cancel_futures=True)
        while any(worker.is_alive() for worker in workers):
            if any(worker.exitcode for worker in workers):  # killed: nobody ends the others
                for worker in workers:
                    worker.kill()
            time.sleep(0.01)
        memory.unlink()
        memory.close()


def _count_slots(wanted: int, size: int) -> int:
    """Return how many batches of `size` bytes fit into half of the free shared memory."""
    # A process that writes to more than there is would be killed.
    try:
        free = shutil.disk_usage(SHARED_MEMORY).free
    except OSError:  # not Linux
        return wanted
    if free < 2 * size:
        raise UserError(
            f"{SHARED_MEMORY}: {free / 1e6:.1f} MB are free, but two batches need "
            f"{2 * size / 1e6:.1f} MB; enlarge it (docker run --shm-size=1g; in Kubernetes an "
            "emptyDir with medium: Memory), or reduce data.batch_size"
        )
    return min(wanted, free // (2 * size))


def _bytes(config: DataConfig, scale: int, count: int) -> tuple[int, int]:
    """Return the sizes of LR and HR of `count` crops."""
    return (3 * count * (config.hr_crop // scale) ** 2, 3 * count * config.hr_crop**2)


def _views(memory: SharedMemory, start: int, config: DataConfig, scale: int, count: int) -> Pair:
    """Return LR and HR of a batch as arrays at byte `start` of the shared memory."""
    side = config.hr_crop
    first, second = _bytes(config, scale, count)
    assert memory.buf is not None
    pixels = np.frombuffer(memory.buf, np.uint8, first + second, start)
    lr = pixels[:first].reshape(count, side // scale, side // scale, 3)
    return lr, pixels[first:].reshape(count, side, side, 3)


def _initialize(open_photos: Callable[[], Photos], memory: str) -> None:
    global _photos, _memory
    for number in (signal.SIGINT, signal.SIGTERM):  # may be sent to all processes of a job
        signal.signal(number, signal.SIG_IGN)  # the parent decides when to stop
    _photos, _memory = open_photos(), SharedMemory(memory)
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()  # otherwise the processes of a killed run would wait for work forever
    os._exit(0)


def _write_batch(
    start: int, config: DataConfig, scale: int, seed: int, step: int, crops: range
) -> None:
    """Write a batch to the shared memory, from byte `start`."""
    lr, hr = _views(_memory, start, config, scale, len(crops))
    lr[...], hr[...] = crop_batch(_photos, config, scale, seed, step, crops)
