"""TF_CONFIG and errors of workers; tests/e2e/test_workers.py runs several workers."""

import errno
import json
import subprocess
import sys

import pytest
import tensorflow as tf

from srgan_tf.errors import UserError
from srgan_tf.training import distribution

CLUSTER = {"worker": ["a:1", "b:1", "c:1"]}


def test_without_tf_config_there_is_one_worker(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    assert distribution.num_workers() == 1
    assert distribution.is_chief()
    strategy = distribution.create_strategy()
    assert distribution.any_worker(strategy)(True)
    assert not distribution.compiles_steps(strategy)  # XLA is used on GPUs only


@pytest.mark.parametrize("index", [0, 1, 2])
def test_worker_0_is_the_chief(monkeypatch, index):
    task = {"type": "worker", "index": index}
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": CLUSTER, "task": task}))
    assert distribution.num_workers() == 3
    assert distribution.is_chief() == (index == 0)


@pytest.mark.parametrize(
    "config",
    [
        "{",
        "[]",
        json.dumps({"cluster": CLUSTER, "task": {"type": "worker", "index": 3}}),
        json.dumps({"cluster": CLUSTER, "task": {"type": "worker", "index": -1}}),
        json.dumps({"cluster": CLUSTER, "task": {"type": "worker", "index": "first"}}),
        json.dumps({"cluster": {"chief": ["a:1"], **CLUSTER}, "task": {"type": "chief"}}),
        json.dumps({"cluster": {"ps": ["a:1"], **CLUSTER}, "task": {"type": "ps", "index": 0}}),
    ],
)
def test_an_invalid_tf_config_is_refused(monkeypatch, config):
    monkeypatch.setenv("TF_CONFIG", config)
    with pytest.raises(UserError, match="TF_CONFIG"):
        distribution.is_chief()


def test_tensorflows_errors_mean_a_lost_worker_only_when_there_are_others(monkeypatch):
    error = tf.errors.UnavailableError(None, None, "connection reset\nmore")
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(tf.errors.UnavailableError), distribution.translate_errors():
        raise error
    task = {"type": "worker", "index": 0}
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": CLUSTER, "task": task}))
    for lost in (
        error,
        tf.errors.AbortedError(None, None, "connection reset"),
        tf.errors.InternalError(None, None, "connection reset by peer"),
    ):
        with (
            pytest.raises(distribution.WorkerLostError, match=r"\(connection reset.*--resume"),
            distribution.translate_errors(),
        ):
            raise lost


def test_equal_texts_are_equal_on_any_number_of_replicas():
    """Sums of three hashes may not be exact in float32."""
    program = """
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 3)
from srgan_tf.training import distribution
distribution.num_workers = lambda: 2
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1", "CPU:2"])
for number in range(12):
    distribution.check_equal(strategy, f"recipe {number}", "recipes")
"""
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("workers", [1, 3])
def test_errors_of_a_gpu_are_not_a_lost_worker(monkeypatch, workers):
    cluster = {"worker": CLUSTER["worker"][:workers]}
    task = {"type": "worker", "index": 0}
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": cluster, "task": task}))
    for message in (
        "cuDNN launch failure : input shape ([16,64,24,24])",
        "Collective ops is aborted by: NCCL: unhandled cuda error",
        "Failed to load in-memory CUBIN: CUDA_ERROR_ILLEGAL_ADDRESS",
        "Blas GEMM launch failed",
    ):
        error = tf.errors.InternalError(None, None, message)
        with pytest.raises(tf.errors.InternalError), distribution.translate_errors():
            raise error
    error = tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")
    with (
        pytest.raises(distribution.OutOfMemoryError, match=r"OOM when .*Lower batch_size"),
        distribution.translate_errors(),
    ):
        raise error


@pytest.mark.parametrize(
    "error",
    [
        tf.errors.ResourceExhaustedError(None, None, "events.v2; No space left on device"),
        OSError(errno.ENOSPC, "No space left on device"),
    ],
)
def test_a_full_disk_is_not_called_memory(error):
    with (
        pytest.raises(UserError, match=r"the disk is full .*No space.*--resume"),
        distribution.translate_errors(),
    ):
        raise error
