"""The engine of SavedModels that `srgan export` wrote."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tensorflow as tf

from srgan_tf.errors import UserError
from srgan_tf.files import TensorFlowPath, first_line
from srgan_tf.inference.engine import in_tiles, tile_side


class SavedModelEngine:
    """Runs a SavedModel.

    Args:
        folder: the folder with saved_model.pb.

    Raises:
        UserError: not a SavedModel of `srgan export`.
    """

    batched = False

    def __init__(self, folder: Path):
        from srgan_tf.export.saved_model import read_servable_info

        info = read_servable_info(folder)
        self.scale, self.radius = info.scale, info.radius
        self.tile = tile_side(info.max_pixels, info.radius)
        seen = TensorFlowPath(folder)
        try:
            # Kept, as signatures have only a weak reference to it.
            self._loaded = tf.saved_model.load(str(seen.path))
        except (OSError, ValueError, tf.errors.OpError) as error:
            raise UserError(f"{folder}: can't be loaded ({first_line(error)})") from None

    def __call__(self, lr: np.ndarray) -> np.ndarray:
        return in_tiles(self._run, lr, self.scale, self.tile, self.radius)

    def _run(self, lr: np.ndarray) -> np.ndarray:
        return self._loaded.signatures["serving_default"](images=tf.constant(lr))[
            "enlarged"
        ].numpy()
