"""The two training stages as Keras models with a custom `train_step`."""

from __future__ import annotations

import keras
import tensorflow as tf

from srgan_tf.config import GanConfig, PretrainConfig
from srgan_tf.losses import ContentLoss, adversarial_loss, discriminator_loss, l1_loss
from srgan_tf.models import Discriminator, SRResNet
from srgan_tf.training.ema import MovingAverage


class _GeneratorTrainer(keras.Model):
    """A generator, its moving average, its content loss and its optimizer."""

    def __init__(
        self,
        generator: SRResNet,
        average: SRResNet,
        content_loss: ContentLoss,
        config: PretrainConfig | GanConfig,
    ):
        super().__init__()
        self.generator, self.content_loss, self.config = generator, content_loss, config
        self.ema = MovingAverage(generator, average, config.ema)
        self.compile(optimizer=adam(config, generator))
        self.built = True

    @property
    def average(self) -> SRResNet:
        """The generator to validate and to release."""
        return self.ema.average


class Pretrainer(_GeneratorTrainer):
    """Trains the generator alone on a content loss.

    Batches are pairs (lr, hr): float32 [N, h, w, 3] in [0, 1] and [N, H, W, 3] in [-1, 1].
    Logs: `loss`, `content` (the content loss before its weight) and `gradient_norm`, means
    over the replicas.

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
            sr = self.generator(lr, training=True)
            content = self.content_loss(hr, sr)
            if self.config.l1_steps:
                content = tf.where(step < self.config.l1_steps, l1_loss(hr, sr), content)
            loss = self.config.content_weight * content
            scaled = loss / _replicas()
        norm = _apply(self.optimizer, tape, scaled, self.generator)
        self.ema.update(step)
        return {"loss": loss, "content": content, "gradient_norm": norm}


class GanTrainer(_GeneratorTrainer):
    """Trains generator and discriminator in turns, once each a batch.

    D's step maximises log D(HR) + log(1 - D(G(LR))), then G's step minimises
    content_weight · l_X + adversarial_weight · l_Gen against the updated D.

    Batches and arguments are the Pretrainer's, and a built discriminator. Logs: `loss` (G's),
    `content`, `adversarial`, `d_loss`, `d_hr` and `d_sr` (mean D(HR) and D(G(LR)),
    probabilities), `gradient_norm` and `d_gradient_norm`.
    """

    config: GanConfig

    def __init__(
        self,
        generator: SRResNet,
        average: SRResNet,
        discriminator: Discriminator,
        content_loss: ContentLoss,
        config: GanConfig,
    ):
        super().__init__(generator, average, content_loss, config)
        self.discriminator = discriminator
        self.d_optimizer = adam(config, discriminator)

    def train_step(self, data):
        lr, hr = data
        with tf.GradientTape() as g_tape:
            sr = self.generator(lr, training=True)
            with tf.GradientTape() as d_tape, g_tape.stop_recording():
                hr_logits = self.discriminator(hr, training=True)
                sr_logits = self.discriminator(tf.stop_gradient(sr), training=True)
                d_loss = discriminator_loss(hr_logits, sr_logits)
                d_scaled = d_loss / _replicas()
            with g_tape.stop_recording():
                d_norm = _apply(self.d_optimizer, d_tape, d_scaled, self.discriminator)
            content = self.content_loss(hr, sr)
            adversarial = adversarial_loss(self.discriminator(sr, training=True))
            loss = (
                self.config.content_weight * content + self.config.adversarial_weight * adversarial
            )
            scaled = loss / _replicas()
        step = tf.identity(self.optimizer.iterations)
        norm = _apply(self.optimizer, g_tape, scaled, self.generator)
        self.ema.update(step)
        return {
            "loss": loss,
            "content": content,
            "adversarial": adversarial,
            "d_loss": d_loss,
            "d_hr": tf.reduce_mean(tf.sigmoid(hr_logits)),
            "d_sr": tf.reduce_mean(tf.sigmoid(sr_logits)),
            "gradient_norm": norm,
            "d_gradient_norm": d_norm,
        }


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
