"""The recipe's `precision: auto`, resolved by measuring this machine."""

from __future__ import annotations

import time

import tensorflow as tf

from srgan_tf.config import Config


def resolve_precision(config: Config, resumed: Config | None = None) -> Config:
    """Replace `precision: auto` by float32 or mixed_bfloat16, whichever is faster on this machine.

    A step in bfloat16 takes a third less time on devices that compute it natively (AVX-512 BF16,
    AMX, NVIDIA since Ampere); others emulate it, up to 30 times slower than float32.

    Args:
        config: the recipe.
        resumed: that of the resumed run, whose precision is kept; None for a new run.
    """
    if config.precision != "auto":
        return config
    if resumed is not None:
        return config.model_copy(update={"precision": resumed.precision})
    seconds = {dtype: _seconds(dtype) for dtype in (tf.float32, tf.bfloat16)}
    faster = seconds[tf.bfloat16] < seconds[tf.float32]
    return config.model_copy(update={"precision": "mixed_bfloat16" if faster else "float32"})


def _seconds(dtype: tf.DType) -> float:
    """Return the time of SRResNet's most frequent convolution and its gradients, the best of 3."""
    features = tf.Variable(tf.ones([4, 24, 24, 64], dtype))
    kernel = tf.Variable(tf.ones([3, 3, 64, 64], dtype))
    times = []
    for _ in range(4):  # the first is a warm-up
        started = time.perf_counter()
        with tf.GradientTape() as tape:
            outputs = tf.nn.conv2d(features, kernel, 1, "SAME")
        for gradient in tape.gradient(outputs, (features, kernel)):
            gradient.numpy()
        times.append(time.perf_counter() - started)
    return min(times[1:])
