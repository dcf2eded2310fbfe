"""Megapixels a second of enlarging 120×120 to 480×480, whole path without files.

    python benchmarks/upscale.py [--model NAME|FILE] [--out FILE]

With torch installed (`pip install -e .[benchmark]`) a plain PyTorch SRResNet takes turns with
ours in the same process: channels-last, inference mode, in float32 and in mixed bfloat16.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
from train_step import median_seconds

from srgan_tf import Upscaler
from srgan_tf.inference.engine import PRECISIONS

SIDE = 120


def plain_pytorch(dtype: str, photo: np.ndarray) -> Callable[[], None]:
    """PyTorch's path from uint8 pixels to uint8 pixels."""
    import torch
    from torch_srresnet import srresnet

    model = srresnet().eval()
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def enlarge():
        with (
            torch.inference_mode(),
            torch.autocast("cpu", torch.bfloat16, enabled=dtype == "mixed_bfloat16"),
        ):
            lr = torch.from_numpy(photo).permute(2, 0, 1)[None].float() / 255
            sr = model(lr.to(memory_format=torch.channels_last)).float()
            ((sr + 1) * 127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()

    return enlarge


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="srresnet-mse")
    parser.add_argument("--out", type=Path, help="write the figures to this JSON file")
    arguments = parser.parse_args()

    photo = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    contestants: dict[str, Callable] = {}
    for precision in PRECISIONS:
        upscaler = Upscaler(arguments.model, precision=precision, engine="tensorflow")
        contestants[f"srgan-tf {precision}"] = partial(upscaler.upscale, photo)
    packages = ["tensorflow", "keras"]
    if importlib.util.find_spec("torch") is not None:
        packages.append("torch")
        for dtype in PRECISIONS:
            contestants[f"PyTorch {dtype}"] = plain_pytorch(dtype, photo)
    seconds = median_seconds(contestants, rounds=15)
    megapixels = SIDE * SIDE * upscaler.scale**2 / 1e6
    for name, s in seconds.items():
        print(f"{arguments.model} ×{upscaler.scale} {name:23} {megapixels / s:6.2f} MP/s out")
    if arguments.out:
        results = {
            "command": "python benchmarks/upscale.py",
            "cores": os.cpu_count(),
            "model": arguments.model,
            "input": [SIDE, SIDE],
            "versions": {name: importlib.metadata.version(name) for name in packages},
            "seconds": {name: round(s, 4) for name, s in seconds.items()},
            "megapixels_per_second": {n: round(megapixels / s, 3) for n, s in seconds.items()},
        }
        arguments.out.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
