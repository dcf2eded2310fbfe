"""Measure megapixels per second of enlarging 120×120 to 480×480, arrays to arrays.

    python benchmarks/upscale.py [--model NAME] [--out FILE]

In turns in one process: srgan-tf with its default engine (LiteRT), with Keras, and, if installed
(`pip install -e '.[benchmark]'`), the same model file in OpenVINO and a PyTorch SRResNet,
channels-last, in inference mode. All compute in float32. `least` is the shortest time, which other
work on the machine affects least.
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
from timing import seconds_in_turns

from srgan_tf import Upscaler
from srgan_tf.files import atomic_write
from srgan_tf.images import to_levels
from srgan_tf.weights import find_litert

SIDE = 120
OURS = "srgan-tf"


def openvino(model: Path, photo: np.ndarray) -> Callable[[], np.ndarray]:
    """OpenVINO's path from uint8 pixels to uint8 pixels, with the released .tflite model."""
    import openvino

    core = openvino.Core()
    fixed = core.read_model(model)
    fixed.reshape([1, *photo.shape])  # faster than a size that may change
    # It would take bfloat16 by itself where the CPU has it.
    options = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    compiled = core.compile_model(fixed, "CPU", options)
    return lambda: to_levels(compiled(photo[None] / np.float32(255))[0][0])


def plain_pytorch(photo: np.ndarray) -> Callable[[], np.ndarray]:
    """PyTorch's path from uint8 pixels to uint8 pixels."""
    import torch
    from torch_srresnet import srresnet

    model = srresnet().eval()
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def enlarge() -> np.ndarray:
        with torch.inference_mode():
            lr = torch.from_numpy(photo).permute(2, 0, 1)[None].float() / 255
            sr = model(lr.to(memory_format=torch.channels_last))
            return ((sr + 1) * 127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()

    return enlarge


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="srresnet-mse", help="a released name")
    parser.add_argument("--out", type=Path, help="write the results to this JSON file")
    arguments = parser.parse_args()

    model = find_litert(arguments.model)
    if model is None:
        parser.error(f"{arguments.model} is not released as a .tflite model")
    photo = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    upscaler = Upscaler(arguments.model, engine="litert")
    keras = Upscaler(arguments.model, engine="tensorflow")
    contestants: dict[str, Callable] = {
        OURS: partial(upscaler.upscale, photo),
        "Keras": partial(keras.upscale, photo),
    }
    packages = ["ai-edge-litert", "tensorflow", "keras"]
    for package, name in (("openvino", "OpenVINO"), ("torch", "PyTorch")):
        if importlib.util.find_spec(package) is not None:
            packages.append(package)
            contestants[name] = (
                openvino(model, photo) if package == "openvino" else plain_pytorch(photo)
            )
    times = seconds_in_turns(contestants, rounds=15, rest=0.3)
    median = {name: float(np.median(seconds)) for name, seconds in times.items()}
    megapixels = SIDE * SIDE * upscaler.scale**2 / 1e6
    for name, seconds in median.items():
        pairs = np.divide(times[OURS], times[name])
        print(
            f"{name:9} {seconds:.3f} s, least {min(times[name]):.3f} s, "
            f"{megapixels / seconds:.2f} MP/s out; {OURS} takes {np.median(pairs):.2f} of it"
        )
    if arguments.out:
        results = {
            "command": f"python benchmarks/upscale.py --model {arguments.model}",
            "cores": os.cpu_count(),
            "model": arguments.model,
            "input": [SIDE, SIDE],
            "versions": {name: importlib.metadata.version(name) for name in packages},
            "seconds": {name: round(s, 4) for name, s in median.items()},
            "least_seconds": {name: round(min(s), 4) for name, s in times.items()},
            "megapixels_per_second": {n: round(megapixels / s, 3) for n, s in median.items()},
        }
        with atomic_write(arguments.out) as temporary:
            temporary.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
