"""Measure the exported models' speed for 120×120 → 480×480, and where 8 bits lose quality.

    python benchmarks/export.py [--models NAME|FILE,…] [--threads N] [--out FILE]
    python benchmarks/export.py --layers HR_PHOTOS [--models NAME|FILE] [--out FILE]

The first command measures TensorFlow in float32 (the Keras model as a `tf.function`) and LiteRT
with each mode, for every model, in turns in one process. Results are medians, also as a share of
the first model's time in TensorFlow; CPU time with one thread, wall time with more. int16x8 is
omitted, as its kernels are not optimized.

The second rounds one part of the graph at a time to 8 bits, with all others in float, then all of
them, and prints the loss of PSNR.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from timing import median_seconds

from srgan_tf.export.fidelity import Tolerance, calibration_photos, compare, reference_photos
from srgan_tf.export.graph import inference_graph, with_low_slopes
from srgan_tf.export.quantize import FakeQuantGraph, float_layers, measure_ranges, round_weights
from srgan_tf.export.tflite import convert
from srgan_tf.files import write_json
from srgan_tf.images import to_levels
from srgan_tf.inference.keras import KerasEngine
from srgan_tf.weights import load_generator

SIDE = 120
ROUNDS = 9
MODES = ("float32", "float16", "dynamic", "int8")


def litert(content: bytes, photo: np.ndarray, threads: int) -> tuple[Callable[[], None], dict]:
    """Return a function that runs a model on a photo, and the kernels that run its operations."""
    interpreter = Interpreter(model_content=content, num_threads=threads)
    (details,) = interpreter.get_input_details()
    interpreter.allocate_tensors()
    lr = photo if details["dtype"] == np.uint8 else photo / np.float32(255)
    interpreter.set_tensor(details["index"], lr[None])
    names = [operation["op_name"] for operation in interpreter._get_ops_details()]
    return interpreter.invoke, {
        "bytes": len(content),
        "operations": len(names) - names.count("DELEGATE"),
        "xnnpack_partitions": names.count("DELEGATE"),
    }


def measure_speed(models: list[str], threads: int) -> dict:
    """Measure and print the seconds of each model in TensorFlow and in each mode."""
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    photo = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    contestants: dict[str, Callable] = {}
    files = {}
    for model in models:
        generator = load_generator(model)
        contestants[f"{model} TensorFlow float32"] = in_tensorflow(generator, photo)
        calibration = calibration_photos("samples", generator.scale, held_out=False)
        for mode in MODES:
            content = convert(generator, mode, model, (SIDE, SIDE), calibration)
            name = f"{model} LiteRT {mode}"
            contestants[name], files[name] = litert(content, photo, threads)
    clock = time.process_time if threads == 1 else time.perf_counter
    seconds = median_seconds(contestants, ROUNDS, clock)
    base = seconds[f"{models[0]} TensorFlow float32"]
    for name, s in seconds.items():
        print(f"{threads} thread(s) {name:32} {s:7.4f} s {s / base:6.3f}", flush=True)
    return {
        "command": f"python benchmarks/export.py --models {','.join(models)} --threads {threads}",
        "threads": threads,
        "clock": "CPU" if threads == 1 else "wall",
        "input": [SIDE, SIDE],
        "versions": {
            name: importlib.metadata.version(name) for name in ("tensorflow", "ai-edge-litert")
        },
        "cpu_flags": _cpu_flags(),
        "seconds": {name: round(s, 4) for name, s in seconds.items()},
        "share": {name: round(s / base, 3) for name, s in seconds.items()},
        "files": files,
    }


def in_tensorflow(generator: keras.Model, photo: np.ndarray) -> Callable[[], None]:
    """Return a function that runs the Keras model on a photo."""
    lr = tf.constant(photo[None] / np.float32(255))
    run = tf.function(lambda x: generator(x))
    return lambda: run(lr).numpy()


def layers(model: str, photos: str) -> dict:
    """Compute the PSNR that is lost by rounding each part of the graph alone, in dB."""
    generator = load_generator(model)
    graph = inference_graph(generator, eight_bit=True)
    graph = with_low_slopes(graph, keep=float_layers(graph))
    calibration = calibration_photos("samples", generator.scale, held_out=False)
    ranges, rounded = measure_ranges(graph, calibration), round_weights(graph, calibration)
    tested = reference_photos(photos, KerasEngine(generator), held_out=False)

    def loss(enlarge: Callable[[tf.Tensor], tf.Tensor]) -> float:
        results = [
            to_levels(enlarge(tf.constant(p.lr[None] / np.float32(255)))[0].numpy()) for p in tested
        ]
        return compare(tested, results, generator.scale, Tolerance()).psnr_loss

    losses = {}

    def measure_part(part: str, enlarge: Callable[[tf.Tensor], tf.Tensor]) -> None:
        losses[part] = loss(enlarge)
        print(f"{part:34} {losses[part]:8.4f} dB", flush=True)

    weights = {f"{layer.name}.weights" for layer in graph.layers} | {"tail.centre.weights"}
    measure_part("all weights", FakeQuantGraph(rounded, ranges, weights))
    parts = {"all weights, each to its nearest": weights}
    for name in ranges:
        layer = name.split(".")[0]
        part = "residual blocks" if layer.startswith("block") else layer
        parts.setdefault(f"{part}: activations", set()).add(name)
    for part, only in parts.items():
        measure_part(part, FakeQuantGraph(graph, ranges, only))
    measure_part("all", FakeQuantGraph(rounded, ranges))
    plain = inference_graph(generator)
    measure_part(
        "all weights, each to its nearest, centre taps not apart",
        FakeQuantGraph(plain, {}, {f"{layer.name}.weights" for layer in plain.layers}),
    )
    return {"command": "python benchmarks/export.py --layers Set5/HR", "psnr_loss": losses}


def _cpu_flags() -> list[str]:
    """Return the vector extensions that determine the speed of 8-bit kernels (Linux only)."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return []
    flags = next((line.split() for line in text.splitlines() if line.startswith("flags")), [])
    return sorted({"avx2", "avx512f", "avx512_vnni", "avx_vnni"} & set(flags))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--models", default="srresnet-mse,srgan-mobile,srgan-mobile-photo", metavar="A,B"
    )
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--layers", metavar="HR_PHOTOS", help="a folder of HR photos")
    parser.add_argument("--out", type=Path, help="add the results to this JSON file")
    arguments = parser.parse_args()
    models = arguments.models.split(",")
    if arguments.layers:
        key, results = "layers", layers(models[0], arguments.layers)
    else:
        results = measure_speed(models, arguments.threads)
        key = ", ".join([f"{arguments.threads} threads", *results["cpu_flags"]])
    if arguments.out:
        former = json.loads(arguments.out.read_text()) if arguments.out.exists() else {}
        write_json(arguments.out, {**former, key: results})


if __name__ == "__main__":
    main()
