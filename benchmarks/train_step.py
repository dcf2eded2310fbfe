"""Measure steps per second of SRResNet training, and the share of data preparation.

    python benchmarks/train_step.py [--precision float32,mixed_bfloat16] [--out FILE]

The model is SRResNet of the paper's size, with batches of 16 crops of 96×96, MSE and Adam. If torch
is installed (`pip install -e .[benchmark]`), a PyTorch SRResNet, channels-last, takes turns with it
in the same process.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf
from timing import median_seconds

from srgan_tf.config import Config, DataConfig, Precision, PretrainConfig
from srgan_tf.data.crops import crop_batch
from srgan_tf.data.pipeline import to_pair, training_dataset
from srgan_tf.data.sources import open_source
from srgan_tf.data.store import open_store, split_photos
from srgan_tf.training.run import build_trainer

ROUNDS = 15


def ours(precision: Precision, lr: np.ndarray, hr: np.ndarray) -> Callable[[], None]:
    """Return a function that runs this project's training step on one batch."""
    section = PretrainConfig(steps=1000)
    config = Config(name="benchmark", precision=precision, pretrain=section)
    trainer = build_trainer(config, section, None)
    step = tf.function(trainer.train_step)
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

    for precision in arguments.precision.split(","):
        steps = {"srgan-tf": ours(precision, lr, hr)}
        if has_torch:
            steps["PyTorch"] = plain_pytorch(precision, lr, hr)
        seconds = median_seconds(steps, ROUNDS)
        results[precision] = {
            name: {"seconds": round(s, 4), "steps_per_second": round(1 / s, 3)}
            for name, s in seconds.items()
        }
        share = results["data_preparation_seconds"] / seconds["srgan-tf"]
        results[precision]["data_preparation_share"] = round(share, 4)
        for name, s in seconds.items():
            print(f"SRResNet 16 blocks × 64 filters, {precision:14} {name:9} {1 / s:6.2f} steps/s")
        print(f"data preparation: {share:.1%} of a step")
    if arguments.out:
        arguments.out.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
