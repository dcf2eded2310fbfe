"""Checkpoints of everything a run needs to go on as if it had never stopped."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path

import tensorflow as tf

from srgan_tf.errors import RequestError
from srgan_tf.files import TensorFlowPath


class Checkpoints:
    """The newest few checkpoints of a trainer, and the one with the best validation PSNR.

    A checkpoint holds both models, the average, the optimizers' slots and step counters and
    the best PSNR so far. TensorFlow writes it under a temporary name and renames it, and
    every tensor carries a checksum.

    Args:
        folder: where they lie; the best one in `best/`.
        trainer: a Pretrainer or GanTrainer.
        keep: how many of the newest to keep.

    Attributes:
        variables: all that training changes.
    """

    def __init__(self, folder: Path, trainer, keep: int):
        self.folder = folder
        self._step = trainer.optimizer.iterations
        self._best_psnr = tf.Variable(float("-inf"), trainable=False, name="best_psnr")
        parts = [("generator", trainer.generator), ("average", trainer.average)]
        parts.append(("optimizer", trainer.optimizer))
        if hasattr(trainer, "discriminator"):
            parts.append(("discriminator", trainer.discriminator))
            parts.append(("d_optimizer", trainer.d_optimizer))
        # Variable by variable: TensorFlow does not see Keras layers that are kept in lists.
        states = {name: _state(part.variables) for name, part in parts}
        self.variables = [v for state in states.values() for v in state]
        self._checkpoint = tf.train.Checkpoint(best_psnr=self._best_psnr, **states)
        self._seen_by_tensorflow = TensorFlowPath(folder)
        path = self._seen_by_tensorflow.path
        self._newest = tf.train.CheckpointManager(
            self._checkpoint, str(path), keep, checkpoint_name="step"
        )
        self._best = tf.train.CheckpointManager(
            self._checkpoint, str(path / "best"), 1, checkpoint_name="step"
        )

    @property
    def step(self) -> int:
        """Updates of the generator so far."""
        return int(self._step.numpy())

    @property
    def best_psnr(self) -> float:
        """The highest validation PSNR so far, in dB; -inf before the first."""
        return float(self._best_psnr.numpy())

    def save(self, psnr: float | None = None) -> bool:
        """Saves the present state, also as the best when `psnr` is the highest so far.

        Returns:
            False when it could not be written (a full disk, say); the earlier checkpoints are
            then still there, and a warning has said so.
        """
        try:
            if psnr is not None and psnr > self.best_psnr:
                self._best_psnr.assign(psnr)
                self._best.save(self.step)
            else:
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
            RequestError: there are checkpoints, but none can be read.
        """
        self._remove_partial()
        newest = [p for p in reversed(self._newest.checkpoints) if Path(f"{p}.index").exists()]
        candidates = [*newest, *self._best.checkpoints]
        for path in candidates:
            try:
                self._checkpoint.restore(path).assert_consumed()
                return True
            except Exception as error:  # a damaged file may raise anything
                reason = str(error).partition("\n")[0]
                warnings.warn(
                    f"{path}: damaged, falling back to the one before ({reason})", stacklevel=2
                )
        if candidates:
            raise RequestError(f"{self.folder}: no checkpoint in it can be read")
        return False

    def _remove_partial(self) -> None:
        for leftover in self.folder.rglob("*_temp"):
            shutil.rmtree(leftover, ignore_errors=True)


def _state(variables) -> list[tf.Variable]:
    # The learning rate is the recipe's: a resumed run may have been given another one.
    return [v.value for v in variables if not v.path.endswith("/learning_rate")]
