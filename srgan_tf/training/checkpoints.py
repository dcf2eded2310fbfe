"""Checkpoints of everything a run needs to go on as if it had never stopped."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path

import numpy as np
import tensorflow as tf

from srgan_tf.errors import UserError
from srgan_tf.files import TensorFlowPath


class Checkpoints:
    """The newest few checkpoints of a trainer.

    A checkpoint holds both models, the average and the optimizers' slots and step counters.
    TensorFlow writes it under a temporary name and renames it, and every tensor carries a
    checksum. The runner without TensorFlow leaves its state as `step-N.npz` instead, which is
    restored like the others.

    Args:
        folder: where they lie.
        trainer: a Pretrainer or GanTrainer.
        keep: how many of the newest to keep.

    Attributes:
        variables: all that training changes.
    """

    def __init__(self, folder: Path, trainer, keep: int):
        self.folder = folder
        self._step = trainer.optimizer.iterations
        # Variable by variable: TensorFlow does not see Keras layers that are kept in lists.
        self.state = training_state(trainer)
        states: dict[str, list[tf.Variable]] = {}
        for key, variable in self.state.items():
            states.setdefault(key.split("/")[0], []).append(variable)
        self.variables = list(self.state.values())
        self._checkpoint = tf.train.Checkpoint(**states)
        self._seen_by_tensorflow = TensorFlowPath(folder)
        path = self._seen_by_tensorflow.path
        self._newest = tf.train.CheckpointManager(
            self._checkpoint, str(path), keep, checkpoint_name="step"
        )

    @property
    def step(self) -> int:
        """Updates of the generator so far."""
        return int(self._step.numpy())

    def save(self) -> bool:
        """Save the present state.

        Returns:
            False when it could not be written (a full disk, say); the earlier checkpoints are
            then still there, and a warning has said so.
        """
        try:
            self._newest.save(self.step)
            return True
        except (tf.errors.OpError, OSError) as error:
            self._remove_partial()
            warnings.warn(
                f"step {self.step}: the checkpoint could not be written ({error}); "
                f"the last good one is {self._newest.latest_checkpoint}",
                stacklevel=2,
            )
            return False

    def discard(self, step: int) -> None:
        """Deletes the checkpoint of a step, if there is one and it is not the only one."""
        if len(self._newest.checkpoints) > 1:
            for file in self.folder.glob(f"step-{step}.*"):
                file.unlink(missing_ok=True)

    def restore(self) -> bool:
        """Restores the newest checkpoint that can be read, and says which it passed over.

        Returns:
            False when there is no checkpoint at all.

        Raises:
            UserError: there are checkpoints, but none can be read.
        """
        self._remove_partial()
        candidates = [p for p in self._newest.checkpoints if Path(f"{p}.index").exists()]
        candidates += map(str, self.folder.glob("step-*.npz"))
        for path in sorted(candidates, key=_step_of, reverse=True):
            try:
                if path.endswith(".npz"):
                    self._restore_arrays(path)
                else:
                    self._checkpoint.restore(path).assert_consumed()
                return True
            except Exception as error:  # a damaged file may raise anything
                reason = str(error).partition("\n")[0]
                warnings.warn(
                    f"{path}: damaged, falling back to the one before ({reason})", stacklevel=2
                )
        if candidates:
            raise UserError(f"{self.folder}: no checkpoint in it can be read")
        return False

    def _restore_arrays(self, path: str) -> None:
        with np.load(path) as arrays:
            values = dict(arrays)
        ended = not any(key.startswith("generator/") for key in values)
        if ended:  # the runner left the average alone, which is all that is released
            names = [key for key in values if key.startswith("average/")]
            values |= {key.replace("average", "generator"): values[key] for key in names}
        keys = self.state.keys() & values.keys() if ended else self.state
        for key in keys:
            self.state[key].assign(values[key])

    def _remove_partial(self) -> None:
        for leftover in self.folder.rglob("*_temp"):
            shutil.rmtree(leftover, ignore_errors=True)


def training_state(trainer) -> dict[str, tf.Variable]:
    """Return all that training changes, by keys such as `generator/0`.

    The learning rate is left out: it follows from the recipe and the step.
    """
    parts = [("generator", trainer.generator), ("average", trainer.average)]
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


def _step_of(path: str) -> int:
    return int(Path(path).stem.rpartition("-")[2])
