"""The engine of SavedModels that `srgan export` wrote."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf

from srgan_tf.errors import UserError
from srgan_tf.files import TensorFlowPath, first_line
from srgan_tf.inference.engine import run_in_tiles, tile_side

INFO_FILE = Path("assets.extra") / "srgan_tf.json"


@dataclass(frozen=True)
class ServableInfo:
    """Properties of a SavedModel that clients need.

    Attributes:
        name: of the generator.
        scale: ratio of the output's side to the input's.
        radius: of the receptive field, in LR pixels.
        max_pixels: largest number of pixels, H·W, of an image.
        version: of srgan-tf.
    """

    name: str
    scale: int
    radius: int
    max_pixels: int
    version: str


class SavedModelEngine:
    """Runs a SavedModel.

    Args:
        folder: the folder with saved_model.pb.

    Raises:
        UserError: not a SavedModel of `srgan export`.
    """

    batched = False

    def __init__(self, folder: Path):
        info = read_servable_info(folder)
        self.scale, self.radius = info.scale, info.radius
        self.tile = tile_side(info.max_pixels, info.radius)
        link = TensorFlowPath(folder)
        try:
            # Kept, as signatures have only a weak reference to it.
            self._loaded = tf.saved_model.load(str(link.path))
        except (OSError, ValueError, tf.errors.OpError) as error:
            raise UserError(f"{folder}: can't be loaded ({first_line(error)})") from None

    def __call__(self, lr: np.ndarray) -> np.ndarray:
        return run_in_tiles(self._run, lr, self.scale, self.tile, self.radius)

    def _run(self, lr: np.ndarray) -> np.ndarray:
        enlarge = self._loaded.signatures["serving_default"]
        try:
            return enlarge(images=tf.constant(lr))["enlarged"].numpy()
        except tf.errors.ResourceExhaustedError as error:
            raise MemoryError(error.message) from None


def read_servable_info(folder: Path) -> ServableInfo:
    """Read the `ServableInfo` of a SavedModel.

    Raises:
        UserError: `srgan export` did not write this SavedModel.
    """
    try:
        return ServableInfo(**json.loads((folder / INFO_FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        raise UserError(
            f"{folder}: a SavedModel that `srgan export --saved-model` did not write"
        ) from None
