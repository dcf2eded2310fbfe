"""The tf.distribute strategy of a run, and agreement among its workers."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import get_args

import tensorflow as tf

from srgan_tf.config import Precision
from srgan_tf.errors import UserError
from srgan_tf.files import first_line, is_disk_full


class WorkerLostError(RuntimeError):
    """Another worker died or can't be reached; the newest checkpoint has a good state."""


class OutOfMemoryError(RuntimeError):
    """A step needs more memory than the device has."""


_CONNECTION = re.compile("collective|connect|socket|stream removed", re.IGNORECASE)
_GPU = re.compile("cuda|cudnn|cublas|nccl", re.IGNORECASE)


@contextmanager
def translate_errors() -> Iterator[None]:
    """Replace errors on memory, full disks and lost workers by errors with a remedy.

    TensorFlow detects a lost worker after about 10 s. Other errors pass unchanged.

    Raises:
        UserError: the disk is full.
        OutOfMemoryError: a step needs more memory than the device has.
        WorkerLostError: another worker died.
    """
    try:
        yield
    except (tf.errors.ResourceExhaustedError, OSError) as error:
        if _is_full_disk(error):
            raise UserError(
                f"the disk is full ({first_line(error)}); training stopped. Free some space and "
                "continue with --resume"
            ) from error
        if isinstance(error, OSError):
            raise
        raise OutOfMemoryError(
            f"out of memory ({_cause(error)}); training stopped. Lower batch_size or "
            "data.hr_crop, or use more devices"
        ) from error
    except (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.InternalError) as error:
        if num_workers() == 1 or not _is_worker_error(error):
            raise
        raise WorkerLostError(
            f"another worker is gone ({_cause(error)}); training stopped. Start all workers "
            "again with --resume to continue from the chief's newest checkpoint"
        ) from error


def _is_full_disk(error: tf.errors.OpError | OSError) -> bool:
    if isinstance(error, OSError):
        return is_disk_full(error)
    return os.strerror(errno.ENOSPC) in error.message


def _cause(error: tf.errors.OpError) -> str:
    """Return the line of a message that states the cause, below headings on the graph."""
    lines = [line.strip() for line in error.message.splitlines()]
    headings = ("", "Graph execution error:", "<stack traces unavailable>")
    causes = [s for s in lines if s not in headings and not s.startswith("Detected at node")]
    return causes[0] if causes else type(error).__name__


def _is_worker_error(error: tf.errors.OpError) -> bool:
    internal = isinstance(error, tf.errors.InternalError)
    return not internal or bool(
        _CONNECTION.search(error.message) and not _GPU.search(error.message)
    )


def create_strategy() -> tf.distribute.Strategy:
    """Create the strategy for this process' devices: all GPUs or, without any, the CPU.

    It is MultiWorkerMirroredStrategy if `TF_CONFIG` names several workers, MirroredStrategy for
    several devices, and TensorFlow's default strategy for one device, under which XLA can compile a
    step. Several workers must call this before any other TensorFlow operation; they wait here for
    each other.

    Raises:
        UserError: `TF_CONFIG` is not a cluster of workers.
    """
    if num_workers() > 1:
        return tf.distribute.MultiWorkerMirroredStrategy()
    gpus = tf.config.list_logical_devices("GPU")
    devices = gpus or tf.config.list_logical_devices("CPU")
    if len(devices) == 1:
        return tf.distribute.get_strategy()
    return tf.distribute.MirroredStrategy([device.name for device in devices])


def compiles_steps(strategy: tf.distribute.Strategy) -> bool:
    """Return whether to compile a step with XLA, which is the case on a single GPU.

    XLA fuses a step's thousand small kernels. On CPUs it is slower, and it can't compile replicas
    that exchange gradients.
    """
    return bool(tf.config.list_logical_devices("GPU")) and strategy.num_replicas_in_sync == 1


def num_workers() -> int:
    """Return the number of workers in `TF_CONFIG`; 1 without it.

    Raises:
        UserError: `TF_CONFIG` is not a cluster of workers.
    """
    cluster, _ = _tf_config()
    return max(1, len(cluster))


def is_chief() -> bool:
    """Return whether this process writes the run's files: worker 0, or the only one."""
    _, index = _tf_config()
    return index == 0


def _tf_config() -> tuple[list[str], int]:
    """Return the workers' addresses and this worker's index."""
    text = os.environ.get("TF_CONFIG", "")
    if not text:
        return [], 0
    try:
        config = json.loads(text)
        jobs, task = config.get("cluster", {}), config.get("task", {})
        addresses, index = list(jobs.get("worker", [])), int(task.get("index", 0))
        fits = set(jobs) <= {"worker"} and task.get("type", "worker") == "worker"
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(
            f"TF_CONFIG must be JSON with the keys cluster and task, but: {error}"
        ) from None
    if not fits or not 0 <= index < max(1, len(addresses)):
        raise UserError(
            "TF_CONFIG must name only workers (worker 0 is the chief), as in "
            '{"cluster": {"worker": ["a:2222", "b:2222"]}, "task": {"type": "worker", "index": 0}}'
        )
    return addresses, index


def describe_devices(strategy: tf.distribute.Strategy) -> str:
    """Describe a strategy's devices by number and kind, such as `2 × NVIDIA H100 80GB HBM3`."""
    gpus = tf.config.list_physical_devices("GPU")
    name = "CPU"
    if gpus:
        details = tf.config.experimental.get_device_details(gpus[0])
        name = details.get("device_name", "GPU")
    return f"{strategy.num_replicas_in_sync} × {name}"


def any_worker(strategy: tf.distribute.Strategy) -> Callable[[bool], bool]:
    """Return a function that ORs a flag over all workers, each of which must call it."""
    if num_workers() == 1:
        return bool

    @tf.function
    def total(flag):
        return strategy.reduce("SUM", strategy.run(tf.identity, args=(flag,)), axis=None)

    return lambda flag: bool(total(tf.constant(float(flag))) > 0)


def check_equal(strategy: tf.distribute.Strategy, text: str, name: str) -> None:
    """Raise UserError if the workers have different texts, such as a fingerprint.

    Args:
        strategy: of all workers.
        text: this worker's.
        name: for the message, in the plural.
    """
    if num_workers() == 1:
        return
    # Sums of bytes are exact in float32.
    digest = list(hashlib.sha256(text.encode()).digest())

    @tf.function
    def gathered():
        def deviation():
            context = tf.distribute.get_replica_context()
            count = float(context.num_replicas_in_sync)
            value = tf.constant(digest, tf.float32)  # a tensor of no replica would not be summed
            total = context.all_reduce("SUM", value)
            return context.all_reduce("SUM", tf.reduce_sum(tf.abs(count * value - total)))

        return strategy.experimental_local_results(strategy.run(deviation))[0]

    if float(gathered()) > 0.0:
        raise UserError(f"the workers have different {name}; give each worker the same ones")


def from_chief(strategy: tf.distribute.Strategy, precision: Precision) -> Precision:
    """Return the chief's precision, which it may have measured, on all workers."""
    precisions = get_args(Precision)
    index = tf.Variable(float(precisions.index(precision)))
    broadcast(strategy, [index])
    return precisions[int(index.numpy())]


def broadcast(strategy: tf.distribute.Strategy, variables: Iterable[tf.Variable]) -> None:
    """Assign the chief's values on all workers, which may lack the files they were read from."""
    if num_workers() == 1:
        return

    def from_first(value):
        context = tf.distribute.get_replica_context()
        is_first = tf.equal(context.replica_id_in_sync_group, 0)
        return context.all_reduce("SUM", tf.where(is_first, value, tf.zeros_like(value)))

    @tf.function
    def agreed(value):
        return strategy.experimental_local_results(strategy.run(from_first, args=(value,)))[0]

    by_dtype: dict[tf.DType, list[tf.Variable]] = {}
    for variable in variables:
        by_dtype.setdefault(variable.dtype, []).append(variable)
    for same in by_dtype.values():
        values = agreed(tf.concat([tf.reshape(v, [-1]) for v in same], axis=0))
        sizes = [v.shape.num_elements() for v in same]
        for variable, value in zip(same, tf.split(values, sizes), strict=True):
            variable.assign(tf.reshape(value, variable.shape))
