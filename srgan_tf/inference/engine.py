"""Engines: a common interface to the runtimes of generators."""

from __future__ import annotations

import importlib.util
import math
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np

from srgan_tf.errors import UserError, install_command
from srgan_tf.inference import ENGINES
from srgan_tf.inference.tiles import cut_tiles
from srgan_tf.weights import find_generator, find_litert

_DEVICES = Path("/dev")


class Engine(Protocol):
    """Enlarges float32 [n, h, w, 3] in [0, 1] to float32 [n, scale·h, scale·w, 3] in [0, 1].

    Both are NumPy arrays. Several threads may share an engine.

    Attributes:
        scale: ratio of the output's side to the input's.
        radius: radius of the receptive field, in LR pixels.
        tile: largest useful side of a tile in LR pixels, without the overlap of `radius`.
        batched: whether a batch of several images is faster than the images one after the other.
    """

    scale: int
    radius: int
    tile: int
    batched: bool

    def __call__(self, lr: np.ndarray) -> np.ndarray: ...


def open_engine(
    model: str | Path, precision: str = "float32", engine: str = "auto", tile_batch_size: int = 1
) -> Engine:
    """Open the engine for a model.

    Args:
        model: a released name, a `.keras` file, a run folder, or an export of `srgan export`: a
            `.tflite` file, a SavedModel's folder or its parent with numbered versions, of which
            the latest is used; or the URL of a server of such a folder, see
            `srgan_tf.inference.server`.
        precision: `float32` or `mixed_bfloat16`; ignored for exported models.
        engine: runtime of a released name: `litert`, `tensorflow`, or `auto`, which is TensorFlow
            if it is installed and there is an NVIDIA GPU, or if `precision` or `tile_batch_size`
            needs it, and LiteRT otherwise.
        tile_batch_size: number of images per batch.

    Raises:
        UserError: no such model, a file of another kind, an engine that can't run the model or
            batches of several images, or a missing package.
    """
    if engine not in ENGINES:
        raise UserError(f"engine must be one of {', '.join(ENGINES)}, not {engine}")
    opened = _open(model, precision, engine, tile_batch_size)
    if tile_batch_size > 1 and not opened.batched:
        raise UserError(
            f"{model}: tile_batch_size must be 1, not {tile_batch_size}: only Keras models take "
            "several tiles at a time"
        )
    return opened


def _open(model: str | Path, precision: str, engine: str, tile_batch_size: int) -> Engine:
    if is_server_url(str(model)):
        if importlib.util.find_spec("requests") is None:
            raise UserError(f"{model}: needs requests: {install_command('serving')}")
        from srgan_tf.inference.server import ServerEngine

        return ServerEngine(str(model))
    path = Path(model)
    if path.suffix == ".tflite":
        if engine == "tensorflow":
            raise UserError(f"{model}: a .tflite model runs on LiteRT, not on TensorFlow")
        return _litert(path)
    folder = saved_model_folder(path)
    if folder is None and engine != "tensorflow" and precision == "float32":
        released = find_litert(model)
        wants_tensorflow = engine == "auto" and (tile_batch_size > 1 or _tensorflow_has_gpu())
        if released is not None and not wants_tensorflow:
            return _litert(released)
    if engine == "litert":
        raise UserError(
            f"{model}: LiteRT runs .tflite files and released generators, in float32: "
            f"srgan export --weights {model} --tflite makes one"
        )
    found = folder or find_generator(model)  # what is wrong with a name comes first
    require_tensorflow(f"{model}: running this model")
    if folder is not None:
        from srgan_tf.inference.saved_model import SavedModelEngine

        return SavedModelEngine(folder)
    from srgan_tf.inference.keras import KerasEngine
    from srgan_tf.weights import load_generator

    return KerasEngine(load_generator(found, precision))


def is_server_url(model: str) -> bool:
    """Return whether a model is one on a server, see `srgan_tf.inference.server`."""
    return re.match("(https?|grpc)://", model, re.IGNORECASE) is not None


def require_tensorflow(purpose: str) -> None:
    """Raise UserError, with how to install it, if TensorFlow is missing."""
    if importlib.util.find_spec("tensorflow") is None:
        raise UserError(f"{purpose} needs TensorFlow: {install_command('tensorflow')}")


def require_serving_api() -> None:
    """Raise UserError if tensorflow-serving-api is not installed."""
    if importlib.util.find_spec("tensorflow_serving") is None:
        raise UserError(f"tensorflow-serving-api is not installed: {install_command('serving')}")


def tile_side(max_pixels: int, radius: int) -> int:
    """Return the side of the largest tile that has at most `max_pixels` including its overlap.

    Raises:
        UserError: no tile is that small.
    """
    side = math.isqrt(max_pixels) - 2 * radius
    if side < 1:
        raise UserError(
            f"a SavedModel for at most {max_pixels} pixels can't enlarge photos in tiles: this "
            f"generator needs --max-pixels of at least {(2 * radius + 1) ** 2} in srgan export"
        )
    return side


def run_in_tiles(
    run: Callable[[np.ndarray], np.ndarray],
    lr: np.ndarray,
    scale: int,
    side: int,
    overlap: int,
    min_size: tuple[int, int] = (0, 0),
) -> np.ndarray:
    """Enlarge images in overlapping tiles, one call of `run` per tile.

    Args:
        run: maps [1, h, w, C] to [1, scale·h, scale·w, 3].
        lr: float32 [n, h, w, C].
        scale: ratio of the output's side to the input's.
        side: largest side of a tile, without the overlap.
        overlap: pixels to read around a tile, within the image.
        min_size: smallest height and width to call `run` with, at most h and w.

    Returns:
        float32 [n, scale·h, scale·w, 3].
    """
    count, size = len(lr), lr.shape[1:3]
    sr = np.empty((count, scale * size[0], scale * size[1], 3), np.float32)
    for tile in cut_tiles(size, scale, side, overlap):
        read, crop = [], []
        for axis in range(2):
            start, stop = tile.read[axis].start, tile.read[axis].stop
            moved = max(0, min(start, size[axis] - min_size[axis]))
            read.append(slice(moved, max(stop, moved + min_size[axis])))
            shift = scale * (start - moved)
            crop.append(slice(tile.crop[axis].start + shift, tile.crop[axis].stop + shift))
        for index in range(count):
            sr[index][tile.write] = run(lr[index : index + 1, *read])[0][*crop]
    return sr


def _litert(path: Path) -> Engine:
    from srgan_tf.inference.litert import LiteRTEngine

    return LiteRTEngine(path)


def _tensorflow_has_gpu() -> bool:
    """Return whether TensorFlow is installed and has a GPU; imports it if there is a GPU."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1")
    devices = [*_DEVICES.glob("nvidia[0-9]*"), *_DEVICES.glob("dxg")]  # dxg: in WSL 2
    if hidden or not devices or importlib.util.find_spec("tensorflow") is None:
        return False
    import tensorflow as tf

    return bool(tf.config.list_physical_devices("GPU"))


def saved_model_folder(path: Path) -> Path | None:
    """Return a SavedModel's folder: the path or its subfolder of the highest version, or None."""
    try:
        if (path / "saved_model.pb").is_file():
            return path
        versions = [p.parent for p in path.glob("*/saved_model.pb") if p.parent.name.isdecimal()]
    except OSError:
        return None
    return max(versions, key=lambda folder: int(folder.name), default=None)
