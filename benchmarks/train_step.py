"""Measure steps and arithmetic per second of SRResNet training, and the share of data preparation.

    python benchmarks/train_step.py [--precision float32,mixed_bfloat16] [--out FILE]

The model is SRResNet of the paper's size, with batches of 16 crops of 96×96, MSE and Adam. If torch
is installed (`pip install -e .[benchmark]`), a PyTorch SRResNet, channels-last, takes turns with it
in the same process.

Arithmetic is what the network's convolutions need, forward and backward, as 2 operations per
multiplication. Its peak is that of a large matrix product on the same machine and in the same
precision, the faster of TensorFlow's and PyTorch's.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import os
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as `srgan train` does

import numpy as np
import tensorflow as tf
from timing import median_seconds

from srgan_tf.config import Config, DataConfig, Precision, PretrainConfig
from srgan_tf.data.crops import crop_batch
from srgan_tf.data.pipeline import to_pair, training_dataset
from srgan_tf.data.sources import open_source
from srgan_tf.data.store import open_store, split_photos
from srgan_tf.files import write_json
from srgan_tf.models import SRResNet
from srgan_tf.training.distribution import compiles_steps
from srgan_tf.training.run import build_trainer

ROUNDS = 15
MATRIX = 2048, 8192
"""Side of the matrices whose product is the peak, on a CPU and on a GPU."""


def ours(precision: Precision, lr: np.ndarray, hr: np.ndarray) -> Callable[[], None]:
    """Return a function that runs this project's training step on one batch."""
    section = PretrainConfig(steps=1000)
    config = Config(name="benchmark", precision=precision, pretrain=section)
    trainer = build_trainer(config, section, None)
    jit_compile = compiles_steps(tf.distribute.get_strategy())
    step = tf.function(trainer.train_step, jit_compile=jit_compile)
    batch = tf.constant(lr), tf.constant(hr)
    return lambda: step(batch)["loss"].numpy()


def plain_pytorch(precision: str, lr: np.ndarray, hr: np.ndarray) -> Callable[[], None]:
    """Return a function that runs a training step of the same network in PyTorch."""
    import torch
    from torch_srresnet import srresnet

    model = srresnet()
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.Adam(model.parameters(), 1e-4)
    lr_tensor, hr_tensor = (
        torch.tensor(a).permute(0, 3, 1, 2).to(memory_format=torch.channels_last) for a in (lr, hr)
    )

    def step():
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "mixed_bfloat16"):
            loss = torch.nn.functional.mse_loss(model(lr_tensor).float(), hr_tensor)
        loss.backward()
        optimizer.step()
        loss.item()

    return step


def operations(lr: np.ndarray) -> int:
    """Count a training step's operations in convolutions.

    Args:
        lr: a batch [N, h, w, 3].
    """
    model = SRResNet()
    model.build()
    blocks = [conv for block in model.trunk for conv in (block.conv1, block.conv2)]
    lr_convs = [model.head, *blocks, model.trunk_conv, model.upsample_convs[0]]
    areas = [(conv, 1) for conv in lr_convs] + [(model.upsample_convs[1], 4), (model.tail, 16)]
    pixels = int(np.prod(lr.shape[:3]))
    forward = {conv: 2 * pixels * area * int(np.prod(conv.kernel.shape)) for conv, area in areas}
    # Backward once for the weights and once for the input, but the photo needs no gradient.
    return 3 * sum(forward.values()) - forward[model.head]


def matrix_product(precision: str, side: int) -> Callable[[], None]:
    """Return a function that multiplies two matrices in TensorFlow."""
    dtype = tf.bfloat16 if precision == "mixed_bfloat16" else tf.float32
    matrix = tf.cast(tf.random.normal([side, side]), dtype)
    product = tf.function(lambda: tf.reduce_sum(tf.matmul(matrix, matrix)))
    return lambda: product().numpy()


def pytorch_matrix_product(precision: str, side: int) -> Callable[[], None]:
    """Return a function that multiplies two matrices in PyTorch."""
    import torch

    dtype = torch.bfloat16 if precision == "mixed_bfloat16" else torch.float32
    matrix = torch.randn(side, side).to(dtype)
    return lambda: (matrix @ matrix).sum().item()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--precision", default="float32,mixed_bfloat16")
    parser.add_argument("--out", type=Path, help="write the results to this JSON file")
    arguments = parser.parse_args()

    data = DataConfig(source="samples")
    store = open_store(open_source("samples"))
    photos, _ = split_photos(store, data, seed=0)
    pair = to_pair(*crop_batch(photos, data, 4, 0, 0))
    lr, hr = (np.asarray(a) for a in pair)

    results: dict = {"command": "python benchmarks/train_step.py", "cores": os.cpu_count()}
    packages = ["tensorflow", "keras"]
    has_torch = importlib.util.find_spec("torch") is not None
    if has_torch:
        packages.append("torch")
    results["versions"] = {name: importlib.metadata.version(name) for name in packages}

    batches = iter(training_dataset(photos, data, 4, 0, range(10_000)))
    seconds = median_seconds({"batch": lambda: next(batches)}, rounds=100)
    results["data_preparation_seconds"] = round(seconds["batch"], 5)

    side = MATRIX[bool(tf.config.list_physical_devices("GPU"))]
    per_step = operations(lr)
    results["operations_per_step"] = per_step
    for precision in arguments.precision.split(","):
        steps = {"srgan-tf": ours(precision, lr, hr)}
        products = {"TensorFlow": matrix_product(precision, side)}
        if has_torch:
            steps["PyTorch"] = plain_pytorch(precision, lr, hr)
            products["PyTorch product"] = pytorch_matrix_product(precision, side)
        seconds = median_seconds({**steps, **products}, ROUNDS)
        peak = 2 * side**3 / min(seconds[name] for name in products)
        share = results["data_preparation_seconds"] / seconds["srgan-tf"]
        results[precision] = {
            "matrix_product_gflops": round(peak / 1e9, 1),
            "data_preparation_share": round(share, 4),
        }
        print(f"{precision}: a product of {side}×{side} matrices runs at {peak / 1e9:.0f} GFLOP/s")
        for name in steps:
            rate = per_step / seconds[name]
            results[precision][name] = {
                "seconds": round(seconds[name], 4),
                "steps_per_second": round(1 / seconds[name], 3),
                "gflops": round(rate / 1e9, 1),
                "share_of_matrix_product": round(rate / peak, 3),
            }
            print(
                f"SRResNet 16 blocks × 64 filters, {precision:14} {name:9} "
                f"{1 / seconds[name]:6.2f} steps/s, {rate / 1e9:.0f} GFLOP/s, "
                f"{rate / peak:.0%} of the product's"
            )
        print(f"data preparation: {share:.1%} of a step")
    if arguments.out:
        write_json(arguments.out, results)


if __name__ == "__main__":
    main()
