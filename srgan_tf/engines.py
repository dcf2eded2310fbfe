"""Engines: what carries out a generator, behind one interface for the Upscaler."""

from __future__ import annotations

import math
import os
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
import tensorflow as tf

from srgan_tf.errors import RequestError
from srgan_tf.files import TensorFlowPath, first_line
from srgan_tf.models import Generator
from srgan_tf.tiles import cut
from srgan_tf.weights import load_generator

# Features of 128×128 pixels need 0.25 GB to be upsampled ×4.
_UPSAMPLE_TILE = 128
# A .tflite model holds all of a tile's features at once: 0.5 GB for 160×160 and its overlap.
_TFLITE_TILE = 160


class Engine(Protocol):
    """Enlarges float32 [1, h, w, 3] in [0, 1] to float32 [1, scale·h, scale·w, 3] in [-1, 1].

    Several threads may use one at a time.

    Attributes:
        scale: how many times as wide and high a result is.
        radius: how many LR pixels to each side an output pixel depends on.
    """

    scale: int
    radius: int

    def __call__(self, lr: tf.Tensor) -> tf.Tensor: ...


def open_engine(model: str | Path, precision: str = "float32") -> Engine:
    """The engine for a model.

    Args:
        model: a released name, a `.keras` file, a run folder, or what `export.py` makes of them:
            a `.tflite` file, a SavedModel's folder or the one above, with numbered versions (the
            latest is taken); or the URL of a server of such a folder, see `srgan_tf.export.client`.
        precision: `float32` or `mixed_bfloat16`; what is exported has its own.

    Raises:
        RequestError: no such model, or a file that is none.
    """
    if str(model).startswith(("http://", "https://", "grpc://")):
        from srgan_tf.export.client import ServerEngine

        return ServerEngine(str(model))
    path = Path(model)
    if path.suffix == ".tflite":
        return TFLiteEngine(path)
    folder = _saved_model_folder(path)
    if folder is not None:
        return SavedModelEngine(folder)
    return GeneratorEngine(load_generator(model, precision))


class GeneratorEngine:
    """Carries out a Keras generator of this process, also on [n, h, w, 3].

    Upsampling takes most of the memory and little context, features the reverse: small tiles
    for the one within the large tile for the other save time and memory.
    """

    def __init__(self, generator: Generator):
        self.scale = generator.scale
        self.radius = generator.features_radius + generator.upsample_radius
        self._upsample_radius = generator.upsample_radius
        # Each one graph for all sizes.
        lr = tf.TensorSpec([None, None, None, 3], tf.float32)
        self._features = tf.function(lambda x: generator.features(x), input_signature=[lr])
        features = tf.TensorSpec.from_tensor(
            self._features.get_concrete_function().structured_outputs
        )
        self._upsample = tf.function(lambda x: generator.upsample(x), input_signature=[features])

    def __call__(self, lr: tf.Tensor) -> tf.Tensor:
        features = self._features(lr)
        count, height, width = lr.shape[:3]
        sr = np.empty((count, self.scale * height, self.scale * width, 3), np.float32)
        for tile in cut((height, width), self.scale, _UPSAMPLE_TILE, self._upsample_radius):
            part = self._upsample(features[:, *tile.read]).numpy()
            sr[:, *tile.write] = part[:, *tile.crop]
        return sr


class TFLiteEngine:
    """Carries out a `.tflite` file that `export.py` wrote, with LiteRT, in tiles.

    A model with a fixed input size gets tiles of that size; an image smaller than it is continued
    by its border pixels. A size that leaves no room beside twice the radius is tiled with less
    overlap, at the price of slight seams.

    Args:
        path: the file.
        threads: of LiteRT; None: one for each core.

    Raises:
        RequestError: not there, not such a file, or ai-edge-litert is missing.
    """

    def __init__(self, path: Path, threads: int | None = None):
        from srgan_tf.export.tflite import require_litert

        require_litert()
        from ai_edge_litert.interpreter import Interpreter

        from srgan_tf.export.metadata import read_info

        try:
            content = path.read_bytes()
            info = read_info(content)
            if info is None:
                raise RequestError(f"{path}: a .tflite file that `python export.py` didn't write")
            self._interpreter = Interpreter(
                model_content=content, num_threads=threads or os.cpu_count()
            )
            # Here, where a command holds back what LiteRT says of it.
            self._interpreter.allocate_tensors()
        except OSError as error:
            raise RequestError(f"{path}: can't be read ({first_line(error)})") from None
        except (ValueError, TypeError, IndexError, struct.error) as error:
            raise RequestError(f"{path}: not a .tflite file ({first_line(error)})") from None
        self.scale, self.radius = info.scale, info.radius
        (self._input,) = self._interpreter.get_input_details()
        (self._output,) = self._interpreter.get_output_details()
        height, width = (int(side) for side in self._input["shape_signature"][1:3])
        self._fixed = (height, width) if height > 0 else None
        self._shape: tuple[int, ...] | None = None
        # An interpreter has one input and one output, and computes with all cores anyway.
        self._lock = threading.Lock()

    def __call__(self, lr: tf.Tensor) -> tf.Tensor:
        if self._fixed is None:
            return in_tiles(self._run, lr.numpy(), self.scale, _TFLITE_TILE, self.radius)
        height, width = (max(sides) for sides in zip(self._fixed, lr.shape[1:3], strict=True))
        missing = [(0, height - lr.shape[1]), (0, width - lr.shape[2])]
        padded = np.pad(lr.numpy(), [(0, 0), *missing, (0, 0)], "edge")
        overlap = min(self.radius, (min(self._fixed) - 1) // 4)
        side = min(self._fixed) - 2 * overlap
        sr = in_tiles(self._run, padded, self.scale, side, overlap, self._fixed)
        return sr[:, : self.scale * lr.shape[1], : self.scale * lr.shape[2]]

    def _run(self, lr: np.ndarray) -> np.ndarray:
        dtype = self._input["dtype"]
        if dtype != np.float32:
            lr = np.rint(lr * np.iinfo(dtype).max).astype(dtype)
        with self._lock:
            if lr.shape != self._shape:
                if self._fixed is None:
                    self._interpreter.resize_tensor_input(self._input["index"], lr.shape)
                    self._interpreter.allocate_tensors()
                self._shape = lr.shape
            self._interpreter.set_tensor(self._input["index"], lr)
            self._interpreter.invoke()
            sr = self._interpreter.get_tensor(self._output["index"])
        if sr.dtype != np.float32:
            sr = sr / np.float32(np.iinfo(sr.dtype).max)
        return sr * 2.0 - 1.0


class SavedModelEngine:
    """Carries out a SavedModel that `export.py` wrote.

    Args:
        folder: with saved_model.pb.

    Raises:
        RequestError: not such a folder.
    """

    def __init__(self, folder: Path):
        from srgan_tf.export.saved_model import read_servable_info

        info = read_servable_info(folder)
        self.scale, self.radius = info.scale, info.radius
        self._side = tile_side(info.max_pixels, info.radius)
        seen = TensorFlowPath(folder)
        try:
            # Kept: the signature refers to it weakly.
            self._loaded = tf.saved_model.load(str(seen.path))
        except (OSError, ValueError, tf.errors.OpError) as error:
            raise RequestError(f"{folder}: can't be loaded ({first_line(error)})") from None

    def __call__(self, lr: tf.Tensor) -> tf.Tensor:
        return in_tiles(self._run, lr.numpy(), self.scale, self._side, self.radius)

    def _run(self, lr: np.ndarray) -> np.ndarray:
        enlarged = self._loaded.signatures["serving_default"](images=tf.constant(lr))["enlarged"]
        return enlarged.numpy() * 2.0 - 1.0


def tile_side(max_pixels: int, radius: int) -> int:
    """The side of the largest tile that with its overlap has at most `max_pixels`."""
    return max(1, math.isqrt(max_pixels) - 2 * radius)


def in_tiles(
    run: Callable[[np.ndarray], np.ndarray],
    lr: np.ndarray,
    scale: int,
    side: int,
    overlap: int,
    exact: tuple[int, int] = (0, 0),
) -> np.ndarray:
    """Enlarges [1, h, w, 3] by `run`, in tiles of at most `side` and an overlap around them.

    Args:
        exact: the least height and width that `run` is given, at most h and w.
    """
    size = lr.shape[1:3]
    sr = np.empty((1, scale * size[0], scale * size[1], 3), np.float32)
    for tile in cut(size, scale, side, overlap):
        read, crop = [], []
        for axis in range(2):
            start, stop = tile.read[axis].start, tile.read[axis].stop
            moved = max(0, min(start, size[axis] - exact[axis]))
            read.append(slice(moved, max(stop, moved + exact[axis])))
            shift = scale * (start - moved)
            crop.append(slice(tile.crop[axis].start + shift, tile.crop[axis].stop + shift))
        sr[0][tile.write] = run(lr[:, *read])[0][*crop]
    return sr


def _saved_model_folder(path: Path) -> Path | None:
    """The folder itself, its subfolder of the highest version, or None."""
    try:
        if (path / "saved_model.pb").is_file():
            return path
        versions = [p.parent for p in path.glob("*/saved_model.pb") if p.parent.name.isdecimal()]
    except OSError:
        return None
    return max(versions, key=lambda folder: int(folder.name), default=None)
