"""The engine of `.tflite` files that `srgan export` wrote, on LiteRT."""

from __future__ import annotations

import importlib.util
import json
import os
import threading
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from srgan_tf.cores import available_cores
from srgan_tf.errors import UserError
from srgan_tf.files import first_line
from srgan_tf.inference.engine import run_in_tiles
from srgan_tf.inference.tiles import DEFAULT_TILE, UPSAMPLE_TILE

# A model's tensors are in memory all at once: 0.6 GB for 176×176 with an overlap of 40; 1 GB for
# the features alone of 384×384, most of which is XNNPACK's tables of addresses.
_TILE, _FEATURES_TILE = 176, 384
# Signatures: a model, and its two parts. The converter sorts them; the first is the default.
ENLARGE, FEATURES, UPSAMPLE = "serving_default", "to_features", "upsample"
METADATA = "SRGAN_TF"  # name of the metadata entry with a ModelInfo


@dataclass(frozen=True)
class ModelInfo:
    """Properties of a `.tflite` model that engines need.

    Attributes:
        name: of the generator.
        mode: number format: float32, float16, dynamic, int8 or int16x8.
        scale: ratio of the output's side to the input's.
        radius: radius of the receptive field, in LR pixels.
        version: of srgan-tf, which wrote it.
        upsample_radius: radius of the receptive field in features; see `LiteRTEngine`.
    """

    name: str
    mode: str
    scale: int
    radius: int
    version: str
    upsample_radius: int = 0


class LiteRTEngine:
    """Runs a `.tflite` model, in tiles.

    Upsampling needs most of the memory and little context, features the reverse. A model with a
    signature for each computes features in large tiles and upsamples these in small ones, which
    takes half as long for large photos as running all of it in small tiles.

    A model with a fixed input size gets tiles of that size; smaller images are padded by repeating
    their borders. If the size is too small for an overlap of the radius, the overlap is smaller,
    which leaves slight seams.

    Args:
        path: the file.
        threads: number of LiteRT's threads; None for $TF_NUM_INTRAOP_THREADS, as with TensorFlow,
            or one per core.

    Raises:
        UserError: no such file, not a model of `srgan export`, or ai-edge-litert is missing.
    """

    batched = False

    def __init__(self, path: Path, threads: int | None = None):
        require_litert()
        from ai_edge_litert.interpreter import Interpreter

        try:
            content = path.read_bytes()
            interpreter = Interpreter(
                model_content=content, num_threads=threads or _default_threads()
            )
            # Allocated here, where commands suppress native output.
            interpreter.allocate_tensors()
        except OSError as error:
            raise UserError(f"{path}: can't be read ({first_line(error)})") from None
        except (ValueError, RuntimeError) as error:
            raise UserError(f"{path}: not a .tflite file ({first_line(error)})") from None
        info = read_model_info(content)
        if info is None:
            raise UserError(f"{path}: a .tflite file that `srgan export` did not write")
        self.scale, self.radius = info.scale, info.radius
        self._upsample_radius = info.upsample_radius
        self._runners = {
            name: interpreter.get_signature_runner(name)
            for name in interpreter.get_signature_list()
        }
        (image,) = self._runners[ENLARGE].get_input_details().values()
        self._dtype = image["dtype"]
        height, width = (int(side) for side in image["shape_signature"][1:3])
        self._fixed_size = (height, width) if height > 0 else None
        self._in_parts = FEATURES in self._runners
        large = _FEATURES_TILE if self._in_parts else _TILE
        self.tile = DEFAULT_TILE if self._fixed_size else large
        # An interpreter has one input and one output buffer, and uses all cores anyway.
        self._lock = threading.Lock()

    def __call__(self, lr: np.ndarray) -> np.ndarray:
        if self._fixed_size is None:
            return run_in_tiles(self._enlarge, lr, self.scale, self.tile, self.radius)
        height, width = (max(sides) for sides in zip(self._fixed_size, lr.shape[1:3], strict=True))
        missing = [(0, height - lr.shape[1]), (0, width - lr.shape[2])]
        padded = np.pad(lr, [(0, 0), *missing, (0, 0)], "edge")
        overlap = min(self.radius, (min(self._fixed_size) - 1) // 4)
        side = min(self._fixed_size) - 2 * overlap
        sr = run_in_tiles(self._enlarge, padded, self.scale, side, overlap, self._fixed_size)
        return sr[:, : self.scale * lr.shape[1], : self.scale * lr.shape[2]]

    def _enlarge(self, lr: np.ndarray) -> np.ndarray:
        if not self._in_parts:
            return self._run(ENLARGE, lr)
        features = self._run(FEATURES, lr)
        upsample = partial(self._run, UPSAMPLE)
        return run_in_tiles(upsample, features, self.scale, UPSAMPLE_TILE, self._upsample_radius)

    def _run(self, signature: str, inputs: np.ndarray) -> np.ndarray:
        if self._dtype != np.float32:
            inputs = np.rint(inputs * np.iinfo(self._dtype).max).astype(self._dtype)
        runner = self._runners[signature]
        (name,) = runner.get_input_details()
        with self._lock:
            (outputs,) = runner(**{name: inputs}).values()
        if outputs.dtype == np.float32:
            return outputs
        return outputs / np.float32(np.iinfo(outputs.dtype).max)


def _default_threads() -> int:
    value = os.environ.get("TF_NUM_INTRAOP_THREADS", "")
    return int(value) if value.isdecimal() and int(value) else available_cores()


def require_litert() -> None:
    """Raise UserError if ai-edge-litert, which runs .tflite models, is missing."""
    if importlib.util.find_spec("ai_edge_litert") is None:
        raise UserError(".tflite models need ai-edge-litert: pip install ai-edge-litert")


def read_model_info(model: bytes) -> ModelInfo | None:
    """Return the ModelInfo of a valid .tflite model; None if `srgan export` did not write it."""
    from ai_edge_litert.schema_py_generated import Model

    root = Model.GetRootAs(model, 0)
    for index in range(root.MetadataLength()):
        entry = root.Metadata(index)
        if entry.Name() == METADATA.encode():
            return ModelInfo(**json.loads(root.Buffers(entry.Buffer()).DataAsNumpy().tobytes()))
    return None
