"""Checkpoints of a run's complete state: a resumed run equals one that never stopped."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path

import numpy as np
import tensorflow as tf

from srgan_tf.errors import UserError
from srgan_tf.files import TensorFlowPath, first_line


class Checkpoints:
    """The newest checkpoints of a trainer.

    A checkpoint has the models, the moving average, and the optimizers' slots and step counters.
    TensorFlow writes it atomically, with a checksum per tensor. The `step-N.npz` files of
    `srgan_tf.training.jax_runner` are restored too.

    Args:
        folder: the run's folder of checkpoints.
        trainer: a Pretrainer or GanTrainer.
        keep: number of checkpoints to keep.

    Attributes:
        state: the variables that training changes, by key.
        average_only: whether the restored checkpoint has only the moving average, of which a run
            can be finished, but not continued.
    """

    def __init__(self, folder: Path, trainer, keep: int):
        self.folder, self.average_only = folder, False
        self._step = trainer.optimizer.iterations
        # Variables, as TensorFlow does not track Keras layers in lists.
        self.state = training_state(trainer)
        parts: dict[str, list[tf.Variable]] = {}
        for key, variable in self.state.items():
            parts.setdefault(key.split("/")[0], []).append(variable)
        self._checkpoint = tf.train.Checkpoint(**parts)
        self._path = TensorFlowPath(folder)
        self._manager = tf.train.CheckpointManager(
            self._checkpoint, str(self._path.path), keep, checkpoint_name="step"
        )

    @property
    def step(self) -> int:
        """Number of updates of the generator so far."""
        return int(self._step.numpy())

    def save(self) -> bool:
        """Save the current state.

        Returns:
            Whether it was written. If not (the disk may be full), earlier checkpoints are kept, and
            a warning is given.
        """
        try:
            self._manager.save(self.step)
            return True
        except (tf.errors.OpError, OSError) as error:
            self._remove_partial()
            warnings.warn(
                f"step {self.step}: the checkpoint could not be written ({error}); "
                f"the newest one is {self._manager.latest_checkpoint}",
                stacklevel=2,
            )
            return False

    def discard(self, step: int) -> bool:
        """Delete the checkpoint of a step, if it exists and is not the only one.

        Returns:
            Whether there is a checkpoint of another step.
        """
        paths = find_checkpoints(self.folder)
        others = [path for path in paths if path.stem != f"step-{step}"]
        if others:
            for file in self.folder.glob(f"step-{step}.*"):
                file.unlink(missing_ok=True)
        return bool(others)

    def restore(self) -> bool:
        """Restore the newest readable checkpoint, with a warning on each damaged one.

        Returns:
            Whether there is a checkpoint.

        Raises:
            UserError: there are checkpoints, but none can be read.
        """
        self._remove_partial()
        candidates = find_checkpoints(self._path.path)
        for path in candidates:
            try:
                if path.suffix == ".npz":
                    self._restore_arrays(path)
                else:
                    self._checkpoint.restore(str(path)).assert_consumed()
                return True
            except Exception as error:  # a damaged file may raise anything
                warnings.warn(
                    f"{path}: damaged ({first_line(error)}); using the previous checkpoint",
                    stacklevel=2,
                )
        if candidates:
            raise UserError(
                f"{self.folder}: no checkpoint can be read; start a new run with another --out"
            )
        return False

    def _restore_arrays(self, path: Path) -> None:
        with np.load(path) as arrays:
            values = dict(arrays)
        self.average_only = not any(key.startswith("generator/") for key in values)
        if self.average_only:  # see the runner's --average-only
            names = [key for key in values if key.startswith("average/")]
            values |= {key.replace("average", "generator"): values[key] for key in names}
        keys = self.state.keys() & values.keys() if self.average_only else self.state
        for key in keys:
            self.state[key].assign(values[key])

    def _remove_partial(self) -> None:
        for partial in self.folder.rglob("*_temp"):
            shutil.rmtree(partial, ignore_errors=True)


def training_state(trainer) -> dict[str, tf.Variable]:
    """Return the variables that training changes, by keys such as `generator/0`.

    The learning rates are omitted, as they follow from the recipe and the step.
    """
    parts = [("generator", trainer.generator), ("average", trainer.ema_generator)]
    parts.append(("optimizer", trainer.optimizer))
    if hasattr(trainer, "discriminator"):
        parts.append(("discriminator", trainer.discriminator))
        parts.append(("d_optimizer", trainer.d_optimizer))
    return {
        f"{part}/{index}": variable
        for part, owner in parts
        for index, variable in enumerate(
            v.value for v in owner.variables if not v.path.endswith("/learning_rate")
        )
    }


def find_checkpoints(folder: Path) -> list[Path]:
    """Find a folder's checkpoints: TensorFlow's, without a suffix, and the runner's `.npz` files.

    TensorFlow's list of them, the file `checkpoint`, is not used: it may be missing in a copy.

    Returns:
        The newest first.
    """
    found = [index.with_suffix("") for index in folder.glob("step-*.index")]
    found += folder.glob("step-*.npz")
    return sorted(found, key=lambda path: int(path.stem.rpartition("-")[2]), reverse=True)
