"""A `.tflite` file that `srgan export` wrote as an engine, run by LiteRT."""

from __future__ import annotations

import importlib.util
import json
import os
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from srgan_tf.errors import UserError
from srgan_tf.files import first_line
from srgan_tf.inference.engine import in_tiles
from srgan_tf.inference.tiles import DEFAULT_TILE

# A model holds all of a tile's features at once: 0.6 GB for 176×176 and an overlap of 40.
_TILE = 176
METADATA = "SRGAN_TF"  # the name of the entry that holds a ModelInfo


@dataclass(frozen=True)
class ModelInfo:
    """What runs a model needs to know of it beside its tensors.

    Attributes:
        name: of the generator.
        mode: how its numbers are stored: float32, float16, dynamic, int8 or int16x8.
        scale: how many times as wide and high a result is.
        radius: how many LR pixels to each side an output pixel depends on.
        version: of srgan-tf that wrote it.
    """

    name: str
    mode: str
    scale: int
    radius: int
    version: str


class LiteRTEngine:
    """Runs a `.tflite` model, in tiles.

    A model with a fixed input size gets tiles of that size; an image smaller than it is continued
    by its border pixels. A size that leaves no room beside twice the radius is tiled with less
    overlap, at the price of slight seams.

    Args:
        path: the file.
        threads: of LiteRT; None: as many as $TF_NUM_INTRAOP_THREADS says, as with TensorFlow,
            or one for each core.

    Raises:
        UserError: not there, not such a file, or ai-edge-litert is missing.
    """

    batched = False

    def __init__(self, path: Path, threads: int | None = None):
        require_litert()
        from ai_edge_litert.interpreter import Interpreter

        try:
            content = path.read_bytes()
            self._interpreter = Interpreter(
                model_content=content, num_threads=threads or _threads()
            )
            # Here, where a command holds back what LiteRT says of it.
            self._interpreter.allocate_tensors()
        except OSError as error:
            raise UserError(f"{path}: can't be read ({first_line(error)})") from None
        except (ValueError, RuntimeError) as error:
            raise UserError(f"{path}: not a .tflite file ({first_line(error)})") from None
        info = read_info(content)
        if info is None:
            raise UserError(f"{path}: a .tflite file that `srgan export` didn't write")
        self.scale, self.radius = info.scale, info.radius
        (self._input,) = self._interpreter.get_input_details()
        (self._output,) = self._interpreter.get_output_details()
        height, width = (int(side) for side in self._input["shape_signature"][1:3])
        self._fixed = (height, width) if height > 0 else None
        self.tile = _TILE if self._fixed is None else DEFAULT_TILE
        self._shape: tuple[int, ...] | None = None
        # An interpreter has one input and one output, and computes with all cores anyway.
        self._lock = threading.Lock()

    def __call__(self, lr: np.ndarray) -> np.ndarray:
        if self._fixed is None:
            return in_tiles(self._run, lr, self.scale, self.tile, self.radius)
        height, width = (max(sides) for sides in zip(self._fixed, lr.shape[1:3], strict=True))
        missing = [(0, height - lr.shape[1]), (0, width - lr.shape[2])]
        padded = np.pad(lr, [(0, 0), *missing, (0, 0)], "edge")
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
        return sr if sr.dtype == np.float32 else sr / np.float32(np.iinfo(sr.dtype).max)


def _threads() -> int:
    said = os.environ.get("TF_NUM_INTRAOP_THREADS", "")
    return int(said) if said.isdecimal() and int(said) else os.cpu_count() or 1


def require_litert() -> None:
    """Raise UserError where ai-edge-litert, which runs .tflite models, is missing."""
    if importlib.util.find_spec("ai_edge_litert") is None:
        raise UserError(".tflite models need ai-edge-litert: pip install ai-edge-litert")


def read_info(model: bytes) -> ModelInfo | None:
    """Return what `srgan export` wrote into a valid .tflite model; None when it didn't write it."""
    from ai_edge_litert.schema_py_generated import Model

    root = Model.GetRootAs(model, 0)
    for index in range(root.MetadataLength()):
        entry = root.Metadata(index)
        if entry.Name() == METADATA.encode():
            return ModelInfo(**json.loads(root.Buffers(entry.Buffer()).DataAsNumpy().tobytes()))
    return None
