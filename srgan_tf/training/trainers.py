"""The two training stages as Keras models with a custom `train_step`."""

from __future__ import annotations

import keras
import tensorflow as tf

from srgan_tf.config import GanConfig, PretrainConfig
from srgan_tf.losses import ContentLosses, adversarial_loss, discriminator_loss, l1_loss
from srgan_tf.models import Discriminator, Generator, UNetDiscriminator
from srgan_tf.models.baselines import unit_luma
from srgan_tf.training.ema import MovingAverage
from srgan_tf.training.schedule import learning_rate


class GeneratorTrainer(keras.Model):
    """A generator, its moving average, its losses and its optimizer."""

    def __init__(
        self,
        generator: Generator,
        average: Generator,
        losses: ContentLosses,
        config: PretrainConfig | GanConfig,
    ):
        super().__init__()
        self.generator, self.content_losses, self.config = generator, losses, config
        self.ema = MovingAverage(generator, average, config.ema)
        self.compile(optimizer=adam(config, generator))
        self.built = True

    @property
    def optimizers(self) -> list[keras.optimizers.Optimizer]:
        """Those whose learning rate follows the schedule."""
        return [self.optimizer]

    def set_learning_rate(self, step: int) -> None:
        """Give the optimizers the learning rate of an update, counted from 0."""
        rate = learning_rate(self.config, step)
        for optimizer in self.optimizers:
            optimizer.learning_rate = rate

    def _moved(self, hr, sr, step):
        if not self.config.jitter:
            return hr, sr
        return shifted_alike(hr, sr, self.generator.scale, step)

    def _compared(self, hr, sr, step) -> dict[str, tf.Tensor]:
        return self.content_losses(hr, sr, self._moved(hr, sr, step))

    def _weighted(self, losses: dict[str, tf.Tensor]) -> tf.Tensor:
        return tf.add_n([weight * losses[name] for name, weight in self.config.losses.items()])

    def _enlarge(self, lr):
        return self.generator(lr, training=self.config.bn_statistics == "batch")

    @property
    def average(self) -> Generator:
        """The generator to validate and to release."""
        return self.ema.average


class Pretrainer(GeneratorTrainer):
    """Trains the generator alone on a content loss.

    Batches are pairs (lr, hr): float32 [N, h, w, 3] in [0, 1] and [N, H, W, 3] in [-1, 1].
    Logs: `loss`, each loss of the recipe by its name, before its weight, and `gradient_norm`, means
    over the replicas.

    Args:
        generator: built, under the strategy's scope.
        average: a built model like the generator, kept as its moving average.
        losses: the recipe's, but the adversarial one.
        config: the stage's section.
    """

    config: PretrainConfig

    def train_step(self, data):
        lr, hr = data
        step = tf.identity(self.optimizer.iterations)
        with tf.GradientTape() as tape:
            losses = self._losses_of(lr, hr, step)
            loss = self._weighted(losses)
            if self.config.l1_steps:
                loss = tf.where(step < self.config.l1_steps, losses["l1"], loss)
        norm = _apply(self.optimizer, tape, loss, self.generator)
        self.ema.update(step)
        return {"loss": loss, **losses, "gradient_norm": norm}

    def _losses_of(self, lr, hr, step):
        return self._compared(hr, self._enlarge(lr), step)

    def _compared(self, hr, sr, step):
        losses = super()._compared(hr, sr, step)
        if self.config.l1_steps:
            losses.setdefault("l1", l1_loss(hr, sr))
        return losses


class LumaPretrainer(Pretrainer):
    """Trains a generator of luma alone: the losses compare Y in [0, 1].

    Of a DRCN the recursions' own predictions are supervised too: their mean loss has a weight
    that falls from 1 to 0 over the training, the result's has the rest (Kim et al. 2016,
    section 3.3).
    """

    def _losses_of(self, lr, hr, step):
        y = unit_luma((hr + 1.0) / 2.0)
        result, *others = self.generator.predictions(unit_luma(lr))
        losses = self._compared(y, result, step)
        if not others:
            return losses
        of_others = [self._compared(y, other, step) for other in others]
        share = 1.0 - tf.cast(step, tf.float32) / self.config.steps
        return {
            name: share * tf.add_n([other[name] for other in of_others]) / len(others)
            + (1.0 - share) * loss
            for name, loss in losses.items()
        }


class GanTrainer(GeneratorTrainer):
    """Trains generator and discriminator in turns, once each a batch.

    D's step maximises log D(HR) + log(1 - D(G(LR))), then G's step minimises the recipe's
    losses, the adversarial one against the updated D.

    Batches and arguments are the Pretrainer's, and a built discriminator. Logs: `loss` (G's),
    each loss of the recipe by its name, before its weight, `d_loss`, `d_hr` and `d_sr` (mean D(HR)
    and D(G(LR)), probabilities), `gradient_norm` and `d_gradient_norm`.
    """

    config: GanConfig

    def __init__(
        self,
        generator: Generator,
        average: Generator,
        discriminator: Discriminator | UNetDiscriminator,
        losses: ContentLosses,
        config: GanConfig,
    ):
        super().__init__(generator, average, losses, config)
        self.discriminator = discriminator
        self.d_optimizer = adam(config, discriminator)

    @property
    def optimizers(self):
        return [self.optimizer, self.d_optimizer]

    def train_step(self, data):
        lr, hr = data
        step = tf.identity(self.optimizer.iterations)
        with tf.GradientTape() as g_tape:
            sr = self._enlarge(lr)
            losses = self._compared(hr, sr, step)
            hr, sr = self._moved(hr, sr, step)
            with tf.GradientTape() as d_tape, g_tape.stop_recording():
                hr_logits, sr_logits = self.discriminator.judge(hr, tf.stop_gradient(sr))
                d_loss = discriminator_loss(hr_logits, sr_logits)
            with g_tape.stop_recording():
                d_norm = _apply(self.d_optimizer, d_tape, d_loss, self.discriminator)
            if "adversarial" in self.config.losses:
                losses["adversarial"] = adversarial_loss(self.discriminator.judge_generated(sr))
            loss = self._weighted(losses)
        norm = _apply(self.optimizer, g_tape, loss, self.generator)
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
    shifts = tf.random.stateless_uniform([2], [0, tf.cast(step, tf.int32)], 0, scale, tf.int32)

    def moved(image):
        # A sum over all shifts, all but one times 0: slices at places that depend on the step would
        # make XLA take the step for a constant.
        for axis in (1, 2):
            length = image.shape[axis]
            paddings = [[scale - 1 if i == axis else 0, 0] for i in range(4)]
            padded = tf.pad(image, paddings, "REFLECT")
            chosen = tf.one_hot(shifts[axis - 1], scale, dtype=image.dtype)
            image = tf.add_n([chosen[i] * _window(padded, i, length, axis) for i in range(scale)])
        return image

    return moved(hr), moved(sr)


def _window(image: tf.Tensor, start: int, length: int, axis: int) -> tf.Tensor:
    index = [slice(None)] * 4
    index[axis] = slice(start, start + length)
    return image[tuple(index)]


def adam(config: PretrainConfig | GanConfig, model: keras.Model) -> keras.optimizers.Adam:
    """Build Adam for `model`, at the stage's highest rate until `set_learning_rate`."""
    of_float16 = model.compute_dtype == "float16"
    optimizer_class = LossScaledAdam if of_float16 else keras.optimizers.Adam
    optimizer = optimizer_class(config.learning_rate, beta_1=0.9)
    optimizer.build(model.trainable_variables)
    return optimizer


class LossScaledAdam(keras.optimizers.Adam):
    """Adam on gradients of a loss that is scaled, so that float16 holds small ones.

    The scale halves where a gradient is not finite and doubles after 2,000 steps in which all were
    (Micikevicius et al. 2018, section 3.2). A gradient that is not finite on any replica counts as
    zero: unlike `keras.optimizers.LossScaleOptimizer`, which looks at the first replica's alone,
    and with which `iterations` stands still.
    """

    first_scale, steps_to_double = 2.0**15, 2000

    def build(self, variables):
        super().build(variables)
        about = {"shape": (), "aggregation": "only_first_replica"}
        initializer = keras.initializers.Constant(self.first_scale)
        self.scale = self.add_variable(initializer=initializer, name="scale", **about)
        self.finite_steps = self.add_variable(
            initializer="zeros", dtype="int64", name="finite_steps", **about
        )

    def scale_loss(self, loss):
        return loss * tf.convert_to_tensor(self.scale)

    def unscale(self, gradients: list[tf.Tensor]) -> list[tf.Tensor]:
        """Take the scale from gradients and set the next; call it in every replica."""
        norm = tf.linalg.global_norm(gradients)
        spoilt = tf.cast(~tf.math.is_finite(norm), tf.float32)
        finite = tf.distribute.get_replica_context().all_reduce("SUM", spoilt) == 0.0
        scale, steps = (tf.convert_to_tensor(v) for v in (self.scale, self.finite_steps))
        doubles = steps + 1 >= self.steps_to_double
        factor = tf.where(finite, tf.where(doubles, 2.0, 1.0), 0.5)
        self.scale.assign(scale * factor)
        self.finite_steps.assign(tf.where(finite & ~doubles, steps + 1, tf.zeros_like(steps)))
        return [tf.where(finite, g / scale, tf.zeros_like(g)) for g in gradients]


def _replicas() -> int:
    return tf.distribute.get_replica_context().num_replicas_in_sync


def _apply(optimizer, tape: tf.GradientTape, loss: tf.Tensor, model: keras.Model) -> tf.Tensor:
    """One update of `model` alone; the norm of this replica's gradients, times the replicas."""
    scale = tf.convert_to_tensor(optimizer.scale_loss(1.0 / _replicas()))
    gradients = tape.gradient(loss, model.trainable_variables, output_gradients=scale)
    if isinstance(optimizer, LossScaledAdam):
        gradients = optimizer.unscale(gradients)
    optimizer.apply(gradients, model.trainable_variables)
    return tf.linalg.global_norm(gradients) * _replicas()
