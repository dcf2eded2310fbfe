"""The two training stages as Keras models with a custom `train_step`."""

from __future__ import annotations

import keras
import tensorflow as tf

from srgan_tf.config import GanConfig, PretrainConfig
from srgan_tf.losses import ContentLosses, adversarial_loss, discriminator_loss, l1_loss
from srgan_tf.models import Discriminator, Generator, UNetDiscriminator
from srgan_tf.models.baselines import unit_luma
from srgan_tf.models.layers import slice_axis
from srgan_tf.ranges import denormalize
from srgan_tf.training.ema import MovingAverage
from srgan_tf.training.schedule import learning_rate


class GeneratorTrainer(keras.Model):
    """Base class of the trainers: a generator, its moving average, content losses and optimizer.

    Args:
        generator: built in the strategy's scope.
        ema_generator: a built model like the generator, for the moving average of its weights.
        losses: the phase's losses, except for the adversarial one.
        section: the phase's section of the recipe.
    """

    def __init__(
        self,
        generator: Generator,
        ema_generator: Generator,
        losses: ContentLosses,
        section: PretrainConfig | GanConfig,
    ):
        super().__init__()
        self.generator, self.content_losses, self.section = generator, losses, section
        self.ema = MovingAverage(generator, ema_generator, section.ema)
        self.compile(optimizer=adam(section, generator))
        self.built = True

    @property
    def optimizers(self) -> list[keras.optimizers.Optimizer]:
        """The optimizers whose learning rate follows the schedule."""
        return [self.optimizer]

    @property
    def ema_generator(self) -> Generator:
        """The moving average of the generator, which is validated and released."""
        return self.ema.average

    def set_learning_rate(self, step: int) -> None:
        """Set the learning rate of the update `step`, counted from 0."""
        rate = learning_rate(self.section, step)
        for optimizer in self.optimizers:
            optimizer.learning_rate = rate

    def _enlarge(self, lr):
        return self.generator(lr, training=not self.section.freeze_bn)

    def _jitter(self, hr, sr, step):
        if not self.section.jitter:
            return hr, sr
        return jitter_pair(hr, sr, self.generator.scale, step)

    def _weighted_sum(self, losses: dict[str, tf.Tensor]) -> tf.Tensor:
        return tf.add_n([weight * losses[name] for name, weight in self.section.losses.items()])


class Pretrainer(GeneratorTrainer):
    """Trains a generator on content losses.

    Batches are pairs (lr, hr), float32 [N, h, w, 3] in [0, 1] and [N, H, W, 3] in [-1, 1]. Logs are
    `loss`, each loss by its name, before its weight, and `gradient_norm`.
    """

    section: PretrainConfig

    def train_step(self, data):
        lr, hr = data
        step = tf.identity(self.optimizer.iterations)
        with tf.GradientTape() as tape:
            losses = self._losses_of(lr, hr, step)
            loss = self._weighted_sum(losses)
            if self.section.l1_steps:
                loss = tf.where(step < self.section.l1_steps, losses["l1"], loss)
        norm = _update(self.optimizer, tape, loss, self.generator)
        self.ema.update(step)
        return {"loss": loss, **losses, "gradient_norm": norm}

    def _losses_of(self, lr, hr, step):
        return self._compare(hr, self._enlarge(lr), step)

    def _compare(self, hr, sr, step):
        losses = self.content_losses(hr, sr, self._jitter(hr, sr, step))
        if self.section.l1_steps:
            losses.setdefault("l1", l1_loss(hr, sr))
        return losses


class LumaPretrainer(Pretrainer):
    """Trains a generator that enlarges luma, with losses on Y in [0, 1].

    DRCN's recursions are supervised too: the mean loss of their predictions has a weight that falls
    from 1 to 0 over the training, and the result's loss has the rest (Kim et al. 2016, section
    3.3).
    """

    def _losses_of(self, lr, hr, step):
        y = unit_luma(denormalize(hr) / 255.0)
        result, *intermediate = self.generator.predictions(unit_luma(lr))
        losses = self._compare(y, result, step)
        if not intermediate:
            return losses
        others = [self._compare(y, prediction, step) for prediction in intermediate]
        share = 1.0 - tf.cast(step, tf.float32) / self.section.steps
        return {
            name: share * tf.add_n([other[name] for other in others]) / len(others)
            + (1.0 - share) * loss
            for name, loss in losses.items()
        }


class GanTrainer(GeneratorTrainer):
    """Trains a generator and a discriminator alternately, one update each per batch.

    D's update maximizes log D(HR) + log(1 - D(G(LR))) (equation 2); then G's update minimizes the
    recipe's losses, with the adversarial loss of the updated D.

    Batches are the Pretrainer's. Logs are `loss` (G's), each loss by its name, before its weight,
    `d_loss`, `d_hr` and `d_sr` (means of the probabilities D(HR) and D(G(LR))), `gradient_norm` and
    `d_gradient_norm`.

    Args:
        generator, ema_generator, losses, section: see `GeneratorTrainer`.
        discriminator: built in the strategy's scope, for HR crops of the recipe's size.
    """

    section: GanConfig

    def __init__(
        self,
        generator: Generator,
        ema_generator: Generator,
        discriminator: Discriminator | UNetDiscriminator,
        losses: ContentLosses,
        section: GanConfig,
    ):
        super().__init__(generator, ema_generator, losses, section)
        self.discriminator = discriminator
        self.d_optimizer = adam(section, discriminator)

    @property
    def optimizers(self):
        return [self.optimizer, self.d_optimizer]

    def train_step(self, data):
        lr, hr = data
        step = tf.identity(self.optimizer.iterations)
        with tf.GradientTape() as g_tape:
            sr = self._enlarge(lr)
            # VGG19 and D see the same shifted pair; the other losses compare pixels as they are.
            shifted_hr, shifted_sr = self._jitter(hr, sr, step)
            losses = self.content_losses(hr, sr, (shifted_hr, shifted_sr))
            with tf.GradientTape() as d_tape, g_tape.stop_recording():
                hr_logits, sr_logits = self.discriminator.judge(
                    shifted_hr, tf.stop_gradient(shifted_sr)
                )
                d_loss = discriminator_loss(hr_logits, sr_logits)
            with g_tape.stop_recording():
                d_norm = _update(self.d_optimizer, d_tape, d_loss, self.discriminator)
            if "adversarial" in self.section.losses:
                generated_logits = self.discriminator.judge_generated(shifted_sr)
                losses["adversarial"] = adversarial_loss(generated_logits)
            loss = self._weighted_sum(losses)
        norm = _update(self.optimizer, g_tape, loss, self.generator)
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


def jitter_pair(
    hr: tf.Tensor, sr: tf.Tensor, scale: int, step: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Shift HR and SR down and right by the same random 0 to `scale` - 1 pixels.

    G's pixel shuffles and the strides of D and VGG19 have common periods; if their phases never
    change, G learns to draw a grid.

    Args:
        hr, sr: float [N, H, W, 3]; borders are filled by reflection.
        scale: ratio of HR's side to LR's.
        step: integer scalar, the seed of the shift.
    """
    shifts = tf.random.stateless_uniform([2], [0, tf.cast(step, tf.int32)], 0, scale, tf.int32)

    def shift(image):
        # A sum of all shifts, all but one times 0, as XLA would compile the step into the program
        # as a constant if it were the position of a slice.
        for axis in (1, 2):
            length = image.shape[axis]
            paddings = [[scale - 1 if i == axis else 0, 0] for i in range(4)]
            padded = tf.pad(image, paddings, "REFLECT")
            chosen = tf.one_hot(shifts[axis - 1], scale, dtype=image.dtype)
            image = tf.add_n(
                [chosen[i] * slice_axis(padded, i, length, axis) for i in range(scale)]
            )
        return image

    return shift(hr), shift(sr)


def adam(section: PretrainConfig | GanConfig, model: keras.Model) -> keras.optimizers.Adam:
    """Build Adam (β1 0.9) for a model, with loss scaling if the model computes in float16."""
    half = model.compute_dtype == "float16"
    optimizer_class = LossScaledAdam if half else keras.optimizers.Adam
    clipnorm = section.global_clipnorm
    optimizer = optimizer_class(
        section.learning_rate,
        beta_1=0.9,
        # Each replica's gradients are its share of the mean; see `_update`.
        global_clipnorm=clipnorm / _replicas() if clipnorm else None,
    )
    optimizer.build(model.trainable_variables)
    return optimizer


class LossScaledAdam(keras.optimizers.Adam):
    """Adam with a dynamic loss scale, with which small gradients do not underflow in float16.

    The scale is halved if a gradient is not finite and doubled after 2,000 steps with finite ones
    (Micikevicius et al. 2018, section 3.2). If a gradient is not finite on any replica, the
    gradients of all are replaced by zero. `keras.optimizers.LossScaleOptimizer` checks the first
    replica only, and does not count skipped steps.
    """

    first_scale, steps_to_double = 2.0**15, 2000

    def build(self, variables):
        super().build(variables)
        scalar = {"shape": (), "aggregation": "only_first_replica"}
        initializer = keras.initializers.Constant(self.first_scale)
        self.scale = self.add_variable(initializer=initializer, name="scale", **scalar)
        self.finite_steps = self.add_variable(
            initializer="zeros", dtype="int64", name="finite_steps", **scalar
        )

    def scale_loss(self, loss):
        return loss * tf.convert_to_tensor(self.scale)

    def unscale(self, gradients: list[tf.Tensor]) -> list[tf.Tensor]:
        """Divide gradients by the scale and update it; to be called in every replica."""
        norm = tf.linalg.global_norm(gradients)
        overflow = tf.cast(~tf.math.is_finite(norm), tf.float32)
        finite = tf.distribute.get_replica_context().all_reduce("SUM", overflow) == 0.0
        scale, steps = (tf.convert_to_tensor(v) for v in (self.scale, self.finite_steps))
        doubles = steps + 1 >= self.steps_to_double
        factor = tf.where(finite, tf.where(doubles, 2.0, 1.0), 0.5)
        self.scale.assign(scale * factor)
        self.finite_steps.assign(tf.where(finite & ~doubles, steps + 1, tf.zeros_like(steps)))
        return [tf.where(finite, g / scale, tf.zeros_like(g)) for g in gradients]


def _replicas() -> int:
    return tf.distribute.get_strategy().num_replicas_in_sync


def _update(optimizer, tape: tf.GradientTape, loss: tf.Tensor, model: keras.Model) -> tf.Tensor:
    """Update a model by the gradients of this replica's loss, and return their norm."""
    # Optimizers sum over replicas: each contributes its share of the mean.
    scale = tf.convert_to_tensor(optimizer.scale_loss(1.0 / _replicas()))
    gradients = tape.gradient(loss, model.trainable_variables, output_gradients=scale)
    if isinstance(optimizer, LossScaledAdam):
        gradients = optimizer.unscale(gradients)
    optimizer.apply(gradients, model.trainable_variables)
    return tf.linalg.global_norm(gradients) * _replicas()
