"""What happens between training steps: saving, validating, logging, stopping."""

from __future__ import annotations

import math
import signal
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from srgan_tf.data.degrade import bicubic_upscale
from srgan_tf.images import to_levels, write_image
from srgan_tf.metrics import psnr_y, ssim_y
from srgan_tf.training.checkpoints import Checkpoints


class TrainingDivergedError(RuntimeError):
    """A loss or gradient was not finite; the newest checkpoint holds a good state."""


class StepCallback(keras.callbacks.Callback):
    """A callback that is told the number of the step, over all resumptions of the run."""

    def __init__(self, checkpoints: Checkpoints):
        super().__init__()
        self.checkpoints = checkpoints

    def on_train_batch_end(self, batch, logs=None):
        self.on_step(self.checkpoints.step, logs or {})

    def on_step(self, step: int, logs: dict[str, float]) -> None:
        """Called after step number `step`, counted from 1."""
        raise NotImplementedError


class StopOnDivergence(StepCallback):
    """Raises TrainingDivergedError on the first loss or gradient that is not finite.

    Comes before the callbacks that save.
    """

    def on_step(self, step, logs):
        bad = [name for name, value in logs.items() if not math.isfinite(value)]
        if bad:
            if any("norm" not in name for name in bad):
                # A loss is of the state before the step: the last update had spoilt it.
                self.checkpoints.discard(step - 1)
            raise TrainingDivergedError(
                f"step {step}: {', '.join(bad)} is not finite; training stopped. The last good "
                f"state is in {self.checkpoints.folder}: go on from it with --resume and, say, a "
                "lower learning rate"
            )


class StopOnSignal(keras.callbacks.Callback):
    """Ends training after the present step on Ctrl-C or SIGTERM; a second one kills."""

    def on_train_begin(self, logs=None):
        self._before = {
            number: signal.signal(number, self._stop) for number in (signal.SIGINT, signal.SIGTERM)
        }

    def on_train_end(self, logs=None):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _stop(self, number, frame):
        self.model.stop_requested = True
        for number in self._before:
            signal.signal(number, signal.SIG_DFL)


class Saver(StepCallback):
    """Saves a checkpoint every `every` steps and when training ends."""

    def __init__(self, checkpoints: Checkpoints, every: int):
        super().__init__(checkpoints)
        self.every = every

    def on_step(self, step, logs):
        if step % self.every == 0:
            self.checkpoints.save()

    def on_train_end(self, logs=None):
        if self.checkpoints.step % self.every:
            self.checkpoints.save()


class FollowSchedule(StepCallback):
    """Give the optimizers the learning rate of each step."""

    def on_train_begin(self, logs=None):
        self.model.set_learning_rate(self.checkpoints.step)

    def on_step(self, step, logs):
        self.model.set_learning_rate(step)


class Validation(StepCallback):
    """Measure the averaged generator on held-out photos.

    `scores` has the last PSNR (dB) and SSIM on Y. TensorBoard gets both, and the first photo as
    a row LR-bicubic | SR | HR, which is also written to `picture`.
    """

    def __init__(self, checkpoints, writer, pairs, every: int, last_step: int, picture: Path):
        super().__init__(checkpoints)
        self.writer, self.pairs, self.every, self.picture = writer, pairs, every, picture
        self.last_step = last_step
        self.scores: dict[str, float] = {}

    def on_train_begin(self, logs=None):
        self._predict = tf.function(
            lambda lr: self.model.average(lr, training=False),
            input_signature=[tf.TensorSpec([1, None, None, 3], tf.float32)],
        )

    def on_step(self, step, logs):
        if step % self.every == 0 or step == self.last_step:
            self.validate(step)

    def validate(self, step: int) -> None:
        """Measure and log, as of step number `step`."""
        scale = self.model.generator.scale
        psnr, ssim = [], []
        for index, (lr, hr) in enumerate(self.pairs):
            sr, hr = (to_levels((x.numpy() + 1.0) / 2.0) for x in (self._predict(lr), hr))
            psnr.append(psnr_y(hr, sr, border=scale))
            ssim.append(ssim_y(hr, sr, border=scale))
            if index == 0:
                bicubic = tf.cast(bicubic_upscale(tf.round(lr * 255.0), scale), tf.uint8)
                row = tf.concat([bicubic, sr, hr], axis=2)
        self.scores = {"psnr": float(np.mean(psnr)), "ssim": float(np.mean(ssim))}
        write_image(self.picture, row[0].numpy())
        with self.writer.as_default(step):
            tf.summary.scalar("validation/psnr", self.scores["psnr"])
            tf.summary.scalar("validation/ssim", self.scores["ssim"])
            tf.summary.image("validation/bicubic, SR, HR", row)


class TensorBoardLogs(StepCallback):
    """Writes the step's logs, learning rate and steps a second every `every` steps."""

    def __init__(self, checkpoints, writer, every: int):
        super().__init__(checkpoints)
        self.writer, self.every = writer, every

    def on_train_begin(self, logs=None):
        self._started, self._since = time.monotonic(), self.checkpoints.step

    def on_step(self, step, logs):
        if step % self.every:
            return
        now = time.monotonic()
        rate = (step - self._since) / (now - self._started)
        self._started, self._since = now, step
        with self.writer.as_default(step):
            for name, value in logs.items():
                tf.summary.scalar(f"train/{name}", value)
            tf.summary.scalar("learning_rate", self.model.optimizer.learning_rate)
            tf.summary.scalar("steps_per_second", rate)


class Progress(StepCallback):
    """A progress bar: step, ETA, losses and the last validation PSNR."""

    def __init__(self, checkpoints, validation: Validation, title: str, last_step: int):
        super().__init__(checkpoints)
        self.validation, self.title, self.last_step = validation, title, last_step

    def on_train_begin(self, logs=None):
        self._bar = tqdm(
            initial=self.checkpoints.step,
            total=self.last_step,
            desc=self.title,
            unit="step",
            dynamic_ncols=True,
            mininterval=0.5,
        )

    def on_step(self, step, logs):
        shown = {name: f"{value:.4g}" for name, value in logs.items() if "norm" not in name}
        if self.validation.scores:
            shown["PSNR"] = f"{self.validation.scores['psnr']:.2f}"
        self._bar.set_postfix(shown, refresh=False)
        self._bar.update(step - self._bar.n)

    def on_train_end(self, logs=None):
        self._bar.close()
