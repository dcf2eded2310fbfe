"""The two training stages as Keras models with a custom `train_step`."""

from __future__ import annotations

from collections.abc import Callable

import keras
import tensorflow as tf

from srgan_tf.config import GanConfig, PretrainConfig
from srgan_tf.losses import (
    ContentLoss,
    adversarial_loss,
    coherence_loss,
    consistency_loss,
    discriminator_loss,
    grid_loss,
    l1_loss,
    spectrum_loss,
)
from srgan_tf.models import Discriminator, Generator
from srgan_tf.models.baselines import unit_luma
from srgan_tf.training.ema import MovingAverage


class _GeneratorTrainer(keras.Model):
    """A generator, its moving average, its content loss and its optimizer."""

    train_function: Callable | None

    def __init__(
        self,
        generator: Generator,
        average: Generator,
        content_loss: ContentLoss,
        config: PretrainConfig | GanConfig,
    ):
        super().__init__()
        self.generator, self.content_loss, self.config = generator, content_loss, config
        self.ema = MovingAverage(generator, average, config.ema)
        self.compile(optimizer=adam(config, generator))
        self.built = True
        self.stop_requested = False

    def make_train_function(self, force=False):
        """One step on every replica; the logs are the replicas' means, those of all workers.

        Keras' own can't reduce scalars over several workers. A worker whose
        `stop_requested` is set stops them all after the same step.
        """
        if self.train_function is not None and not force:
            return self.train_function
        strategy = self.distribute_strategy

        def replica_step(batch, stop):
            return {**self.train_step(batch), "stop": stop}

        @tf.function
        def step(batches, stop):
            logs = strategy.run(replica_step, args=(next(batches), stop))
            return {name: strategy.reduce("MEAN", log, axis=None) for name, log in logs.items()}

        def train_function(batches):
            logs = step(batches, tf.constant(float(self.stop_requested)))
            self.stop_training |= bool(logs.pop("stop") > 0)
            return logs

        self.train_function = train_function
        return train_function

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        """All is built; Keras would reduce a batch over the workers to build with."""

    def _weight(self, loss: str) -> float:
        return getattr(self.config, f"{loss}_weight")

    def _weighted(self, losses: dict[str, tf.Tensor]) -> tf.Tensor:
        return tf.add_n([self._weight(name) * losses[name] for name in losses])

    def _fidelity(self, hr, sr) -> dict[str, tf.Tensor]:
        scale = self.generator.scale
        losses = {
            "consistency": lambda: consistency_loss(hr, sr, scale),
            "grid": lambda: grid_loss(hr, sr, scale),
            "spectrum": lambda: spectrum_loss(hr, sr, scale),
            "coherence": lambda: coherence_loss(sr, scale),
        }
        return {name: loss() for name, loss in losses.items() if self._weight(name)}

    def _enlarge(self, lr):
        return self.generator(lr, training=self.config.bn_statistics == "batch")

    @property
    def average(self) -> Generator:
        """The generator to validate and to release."""
        return self.ema.average


class Pretrainer(_GeneratorTrainer):
    """Trains the generator alone on a content loss.

    Batches are pairs (lr, hr): float32 [N, h, w, 3] in [0, 1] and [N, H, W, 3] in [-1, 1].
    Logs: `loss`, `content`, those of `consistency`, `grid`, `spectrum` and `coherence` that have
    a weight (before it) and `gradient_norm`, means over the replicas.

    Args:
        generator: built, under the strategy's scope.
        average: a built model like the generator, kept as its moving average.
        content_loss: of (hr, sr).
        config: the stage's section.
    """

    config: PretrainConfig

    def train_step(self, data):
        lr, hr = data
        step = tf.identity(self.optimizer.iterations)
        with tf.GradientTape() as tape:
            losses = self._losses_of(lr, hr, step)
            loss = self._weighted(losses)
            scaled = loss / _replicas()
        norm = _apply(self.optimizer, tape, scaled, self.generator)
        self.ema.update(step)
        return {"loss": loss, **losses, "gradient_norm": norm}

    def _losses_of(self, lr, hr, step):
        sr = self._enlarge(lr)
        fidelity = self._fidelity(hr, sr)
        if self.config.content.startswith("vgg"):
            hr, sr = shifted_alike(hr, sr, self.generator.scale, step)
        return {"content": self._compare(hr, sr, step), **fidelity}

    def _compare(self, hr, sr, step):
        content = self.content_loss(hr, sr)
        if self.config.l1_steps:
            return tf.where(step < self.config.l1_steps, l1_loss(hr, sr), content)
        return content


class LumaPretrainer(Pretrainer):
    """Trains a generator of luma alone: the content loss compares Y in [0, 1].

    Of a DRCN the recursions' own predictions are supervised too: their mean loss has a weight
    that falls from 1 to 0 over the training, the result's has the rest (Kim et al. 2016,
    section 3.3).
    """

    def _losses_of(self, lr, hr, step):
        y = unit_luma((hr + 1.0) / 2.0)
        result, *others = self.generator.predictions(unit_luma(lr))
        content = self._compare(y, result, step)
        if not others:
            return {"content": content}
        of_others = tf.add_n([self._compare(y, other, step) for other in others]) / len(others)
        share = 1.0 - tf.cast(step, tf.float32) / self.config.steps
        return {"content": share * of_others + (1.0 - share) * content}


class GanTrainer(_GeneratorTrainer):
    """Trains generator and discriminator in turns, once each a batch.

    D's step maximises log D(HR) + log(1 - D(G(LR))), then G's step minimises
    content_weight · l_X + adversarial_weight · l_Gen against the updated D, and the
    consistency, grid, spectrum and coherence losses with their weights.

    Batches and arguments are the Pretrainer's, and a built discriminator. Logs: `loss` (G's),
    `content`, `adversarial`, those of `consistency`, `grid`, `spectrum` and `coherence` that have
    a weight, `d_loss`, `d_hr` and `d_sr` (mean D(HR) and D(G(LR)), probabilities),
    `gradient_norm` and `d_gradient_norm`.
    """

    config: GanConfig

    def __init__(
        self,
        generator: Generator,
        average: Generator,
        discriminator: Discriminator,
        content_loss: ContentLoss,
        config: GanConfig,
    ):
        super().__init__(generator, average, content_loss, config)
        self.discriminator = discriminator
        self.d_optimizer = adam(config, discriminator)

    def train_step(self, data):
        lr, hr = data
        step = tf.identity(self.optimizer.iterations)
        with tf.GradientTape() as g_tape:
            sr = self._enlarge(lr)
            fidelity = self._fidelity(hr, sr)
            hr, sr = shifted_alike(hr, sr, self.generator.scale, step)
            with tf.GradientTape() as d_tape, g_tape.stop_recording():
                hr_logits = self.discriminator(hr, training=True)
                sr_logits = self.discriminator(tf.stop_gradient(sr), training=True)
                d_loss = discriminator_loss(hr_logits, sr_logits)
                d_scaled = d_loss / _replicas()
            with g_tape.stop_recording():
                d_norm = _apply(self.d_optimizer, d_tape, d_scaled, self.discriminator)
            losses = {
                "content": self.content_loss(hr, sr),
                "adversarial": adversarial_loss(self.discriminator(sr, training=True)),
                **fidelity,
            }
            loss = self._weighted(losses)
            scaled = loss / _replicas()
        norm = _apply(self.optimizer, g_tape, scaled, self.generator)
        self.ema.update(step)
        return {
            "loss": loss,
            **losses,
            "d_loss": d_loss,
            "d_hr": tf.reduce_mean(tf.sigmoid(hr_logits)),
            "d_sr": tf.reduce_mean(tf.sigmoid(sr_logits)),
            "gradient_norm": norm,
            "d_gradient_norm": d_norm,
        }


def shifted_alike(
    hr: tf.Tensor, sr: tf.Tensor, scale: int, step: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Both moved down and right by the same 0 to `scale` - 1 pixels, drawn anew each step.

    G's pixel shuffles and the strides of D and VGG19 have common periods. Where they always
    meet at the same place, G learns to draw a grid.

    Args:
        hr, sr: [N, H, W, 3]; what moves in at the border is mirrored.
        scale: G's.
        step: scalar integer, the seed.
    """
    most = scale - 1
    start = tf.random.stateless_uniform([2], [0, tf.cast(step, tf.int32)], 0, scale, tf.int32)
    start = tf.concat([[0], start, [0]], 0)

    def moved(image):
        padded = tf.pad(image, [[0, 0], [most, 0], [most, 0], [0, 0]], "REFLECT")
        return tf.ensure_shape(tf.slice(padded, start, tf.shape(image)), image.shape)

    return moved(hr), moved(sr)


def adam(config: PretrainConfig | GanConfig, model: keras.Model) -> keras.optimizers.Adam:
    """Adam with a stage's learning-rate schedule, its slots built for `model`."""
    peak = config.learning_rate
    schedules = keras.optimizers.schedules
    rate: float | keras.optimizers.schedules.LearningRateSchedule = peak
    if config.schedule == "drop":
        rate = schedules.PiecewiseConstantDecay([config.steps // 2 - 1], [peak, peak / 10])
    elif config.schedule == "cosine":
        rate = schedules.CosineDecay(
            0.0 if config.warmup_steps else peak,
            config.steps - config.warmup_steps,
            alpha=0.01,
            warmup_target=peak if config.warmup_steps else None,
            warmup_steps=config.warmup_steps,
        )
    optimizer = keras.optimizers.Adam(rate, beta_1=0.9)
    optimizer.build(model.trainable_variables)
    return optimizer


def _replicas() -> int:
    return tf.distribute.get_replica_context().num_replicas_in_sync


def _apply(optimizer, tape: tf.GradientTape, loss: tf.Tensor, model: keras.Model) -> tf.Tensor:
    """One update of `model` alone; the norm of this replica's gradients, times the replicas."""
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer.apply(gradients, model.trainable_variables)
    return tf.linalg.global_norm(gradients) * _replicas()
