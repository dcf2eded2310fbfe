"""The training loop: steps, and logging, validation and checkpoints between them."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterator

import tensorflow as tf
from tqdm import tqdm

from srgan_tf.config import Config
from srgan_tf.training.checkpoints import Checkpoints
from srgan_tf.training.distribution import any_worker, compiles_steps
from srgan_tf.training.trainers import GeneratorTrainer
from srgan_tf.training.validation import Validation


class TrainingDivergedError(RuntimeError):
    """A loss or gradient was not finite."""


class StopOnSignal:
    """A context manager: the first SIGINT or SIGTERM sets `requested`, the second one kills."""

    requested = False

    def __enter__(self) -> StopOnSignal:
        self._before = {
            number: signal.signal(number, self._stop) for number in (signal.SIGINT, signal.SIGTERM)
        }
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _stop(self, number, frame) -> None:
        self.requested = True
        for number in self._before:
            signal.signal(number, signal.SIG_DFL)


def train_steps(
    trainer: GeneratorTrainer,
    batches: Iterator,
    strategy: tf.distribute.Strategy,
    config: Config,
    checkpoints: Checkpoints,
    save: Callable[[], None],
    validation: Validation | None,
    title: str,
) -> None:
    """Train from the current step to the last one, or until SIGINT or SIGTERM.

    All workers stop after the same step, whichever receives the signal. Logs are fetched only after
    steps that use them, so that a GPU can queue the steps between.

    Args:
        trainer: built under `strategy`.
        batches: of the remaining steps, distributed by `strategy`.
        strategy: of one or several replicas.
        config: the recipe.
        checkpoints: the trainer's.
        save: called every `checkpoint_every` steps and at the end.
        validation: on the chief; None on other workers, which log nothing.
        title: of the progress bar.

    Raises:
        TrainingDivergedError: a loss or gradient was not finite.
    """
    update = compile_step(trainer, strategy, compiles_steps(strategy))
    any_stopped = any_worker(strategy)
    step, last = checkpoints.step, trainer.section.steps
    saved = logged = step
    since = time.monotonic()
    bar = tqdm(
        initial=step,
        total=last,
        desc=title,
        unit="step",
        dynamic_ncols=True,
        mininterval=0.5,
        disable=validation is None,
    )
    with StopOnSignal() as stop, bar:
        while step < last:
            trainer.set_learning_rate(step)
            logs = update(batches)
            step += 1
            bar.update()

            ends = any_stopped(stop.requested) or step == last
            saves = ends or step % config.checkpoint_every == 0
            shows = step % config.log_every == 0
            # A step's losses are those of the state before it, so the step after a checkpoint shows
            # whether that state is good.
            if saves or shows or step == saved + 1:
                values = {name: float(value) for name, value in logs.items()}
                check_finite(values, step, checkpoints)

            if validation is not None and shows:
                now = time.monotonic()
                rate = (step - logged) / (now - since)
                logged, since = step, now
                write_scalars(validation.writer, step, values, trainer, rate)
                bar.set_postfix(_shown(values, validation), refresh=False)
            if validation is not None and step % config.validate_every == 0 and step < last:
                validation.measure(step)
            if saves:
                save()
                saved = step
            if ends:
                break


def compile_step(
    trainer: GeneratorTrainer, strategy: tf.distribute.Strategy, jit_compile: bool
) -> Callable[[Iterator], dict[str, tf.Tensor]]:
    """Compile a function that trains all replicas on their next batches.

    It returns the logs' means over the replicas of all workers.

    Args:
        trainer: built under `strategy`.
        strategy: of one replica if `jit_compile` is set.
        jit_compile: compile the step with XLA.
    """
    replica_step = trainer.train_step
    if jit_compile:
        replica_step = tf.function(replica_step, jit_compile=True)

    @tf.function
    def step(batches):
        logs = strategy.run(replica_step, args=(next(batches),))
        return {name: strategy.reduce("MEAN", log, axis=None) for name, log in logs.items()}

    return step


def check_finite(logs: dict[str, float], step: int, checkpoints: Checkpoints) -> None:
    """Raise TrainingDivergedError if a log of step number `step`, from 1, is not finite."""
    bad = [name for name, value in logs.items() if not math.isfinite(value)]
    if not bad:
        return
    advice = (
        f"The last good state is in {checkpoints.folder}: continue from it with --resume and a "
        "lower learning rate"
    )
    # A step's losses are those of the state before it: the checkpoint of that state is bad.
    if any("norm" not in name for name in bad) and not checkpoints.discard(step - 1):
        advice = f"No good state is left in {checkpoints.folder}: start again with another --out"
    raise TrainingDivergedError(
        f"step {step}: {', '.join(bad)} is not finite; training stopped. {advice}"
    )


def write_scalars(
    writer, step: int, logs: dict[str, float], trainer: GeneratorTrainer, rate: float
) -> None:
    """Log a step's losses, learning rate and steps per second for TensorBoard."""
    with writer.as_default(step):
        for name, value in logs.items():
            tf.summary.scalar(f"train/{name}", value)
        tf.summary.scalar("learning_rate", trainer.optimizer.learning_rate)
        tf.summary.scalar("steps_per_second", rate)


def _shown(logs: dict[str, float], validation: Validation) -> dict[str, str]:
    shown = {name: f"{value:.4g}" for name, value in logs.items() if "norm" not in name}
    if validation.scores:
        shown["PSNR"] = f"{validation.scores['psnr']:.2f}"
    return shown
