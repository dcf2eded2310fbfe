import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from srgan_tf.config import GanConfig, PretrainConfig
from srgan_tf.losses import ContentLosses, lowres_mse_loss, mse_loss
from srgan_tf.models import Discriminator, SRResNet, UNetDiscriminator
from srgan_tf.training import trainers
from srgan_tf.training.schedule import learning_rate
from srgan_tf.training.trainers import GanTrainer, LossScaledAdam, Pretrainer, jitter_pair


def generators():
    keras.utils.set_random_seed(0)
    pair = [SRResNet(blocks=1, filters=8) for _ in range(2)]
    for model in pair:
        model.build()
    return pair


MSE_GAN = {"mse": 1.0, "adversarial": 1e-3}


def losses_of(config):
    return ContentLosses([name for name in config.losses if name != "adversarial"], 4)


def pretrainer(**section):
    config = PretrainConfig(**{"steps": 10, **section})
    return Pretrainer(*generators(), losses_of(config), config)


def gan_trainer(architecture="srgan", **section):
    discriminator = UNetDiscriminator(filters=8)
    if architecture == "srgan":
        discriminator = Discriminator(filters=8, dense_units=16)
    discriminator.build((None, 32, 32, 3))
    config = GanConfig(**{"steps": 10, "losses": MSE_GAN, "start_from": None, **section})
    return GanTrainer(*generators(), discriminator, losses_of(config), config)


def batch(seed=0, size=2):
    rng = np.random.default_rng(seed)
    lr = rng.uniform(0, 1, (size, 8, 8, 3)).astype("float32")
    return tf.constant(lr), tf.constant(np.kron(lr, np.ones((1, 4, 4, 1))) * 2 - 1, tf.float32)


def values(model):
    return [np.array(v) for v in model.trainable_variables]


def changed(before, model):
    return [bool(np.any(a != b)) for a, b in zip(before, values(model), strict=True)]


def test_pretraining_lowers_the_loss_and_reports_it():
    trainer = pretrainer(steps=40, learning_rate=1e-3)
    lr, hr = batch()
    data = tf.data.Dataset.from_tensors((lr, hr)).repeat(40)
    before = float(mse_loss(hr, trainer.generator(lr, training=True)))
    history = trainer.fit(data, shuffle=False, verbose=0)
    assert history.history.keys() == {
        "loss",
        "mse",
        "gradient_norm",
    }
    assert history.history["loss"][0] < 0.8 * before
    assert int(trainer.optimizer.iterations) == 40


def test_gradient_norm_is_that_of_the_loss():
    trainer = pretrainer()
    generator = trainer.generator
    lr, hr = batch()
    with tf.GradientTape() as tape:
        loss = mse_loss(hr, generator(lr, training=True))
    gradients = tape.gradient(loss, generator.trainable_variables)
    expected = np.sqrt(sum(float(tf.reduce_sum(g**2)) for g in gradients))
    logs = trainer.train_step((lr, hr))
    assert float(logs["gradient_norm"]) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("architecture", ["srgan", "unet"])
def test_each_update_of_a_gan_step_changes_one_network_only(monkeypatch, architecture):
    trainer = gan_trainer(architecture)
    generator, discriminator = trainer.generator, trainer.discriminator
    seen = []

    def spy(optimizer):
        apply = optimizer.apply

        def wrapped(gradients, variables):
            before = values(generator), values(discriminator)
            apply(gradients, variables)
            seen.append((changed(before[0], generator), changed(before[1], discriminator)))

        return wrapped

    for optimizer in (trainer.d_optimizer, trainer.optimizer):
        monkeypatch.setattr(optimizer, "apply", spy(optimizer))
    for step in range(4):  # behind the gammas of zero, deeper layers get gradients one by one
        trainer.train_step(batch(step))
    assert len(seen) == 8
    for of_generator, of_discriminator in seen[::2]:  # D's updates
        assert not any(of_generator) and all(of_discriminator)
    for of_generator, of_discriminator in seen[1::2]:  # G's updates
        assert any(of_generator) and not any(of_discriminator)
    assert all(seen[-1][0])


@pytest.mark.parametrize("stage", ["pretrain", "gan"])
@pytest.mark.parametrize("freeze_bn", [False, True])
def test_frozen_statistics_stay_and_the_loss_is_that_of_inference(stage, freeze_bn):
    if stage == "gan":
        trainer = gan_trainer(freeze_bn=freeze_bn)
    else:
        trainer = pretrainer(freeze_bn=freeze_bn)
    generator = trainer.generator
    for variable in generator.trainable_variables:
        if "gamma" in variable.path:  # initially zero, which hides the statistics
            variable.assign(tf.ones(variable.shape))
    statistics = [np.array(v) for v in generator.non_trainable_variables]
    weights = values(generator)
    lr, hr = batch()
    inference_mse = float(mse_loss(hr, generator(lr, training=False)))
    content = float(trainer.train_step((lr, hr))["mse"])
    after = [np.array(v) for v in generator.non_trainable_variables]
    same = [np.array_equal(a, b) for a, b in zip(statistics, after, strict=True)]
    if freeze_bn:
        assert content == pytest.approx(inference_mse, rel=1e-5) and all(same)
        assert all(changed(weights, generator))
    else:
        assert content != pytest.approx(inference_mse, rel=1e-3) and not any(same)


def test_discriminator_learns_to_tell_photos_from_outputs():
    trainer = gan_trainer(learning_rate=1e-3)
    data = tf.data.Dataset.from_tensors(batch(size=4)).repeat(30)
    trainer.fit(data, shuffle=False, verbose=0)
    logs = trainer.train_step(batch(size=4))
    assert logs["d_hr"] > 0.6 > 0.4 > logs["d_sr"]


def test_the_total_loss_is_the_weighted_sum():
    losses = {"mse": 2.0, "lowres_mse": 3.0, "log_spectrum_mse": 5.0, "coherence": 4.0}

    def total(logs, weights):
        expected = sum(weight * float(logs[name]) for name, weight in weights.items())
        return pytest.approx(expected, rel=1e-6)

    weights = {**losses, "adversarial": 0.5}
    logs = gan_trainer(losses=weights).train_step(batch())
    assert float(logs["loss"]) == total(logs, weights)
    logs = pretrainer(losses=losses).train_step(batch())
    assert float(logs["loss"]) == total(logs, losses)


def test_the_first_steps_are_on_l1():
    trainer = pretrainer(l1_steps=1)
    first, second = (trainer.train_step(batch()) for _ in range(2))
    assert float(first["loss"]) == float(first["l1"])
    assert float(second["loss"]) == float(second["mse"])


def test_jitter_shifts_the_discriminators_images_and_no_other_losses():
    trainer = gan_trainer(
        losses={"lowres_mse": 1.0, "adversarial": 1e-3}, jitter=True, freeze_bn=True
    )
    seen = []
    judge = trainer.discriminator.judge
    trainer.discriminator.judge = lambda hr, sr: (seen.append(hr), judge(hr, sr))[1]
    lr, hr = batch()
    trainer.optimizer.iterations.assign(1)
    expected = lowres_mse_loss(hr, trainer.generator(lr), 4)
    assert float(trainer.train_step((lr, hr))["lowres_mse"]) == pytest.approx(float(expected))
    np.testing.assert_array_equal(seen[0], jitter_pair(hr, hr, 4, tf.constant(1))[0])
    assert np.any(seen[0] != hr)


def test_lowres_mse_alone_brings_a_faded_generator_back():
    trainer = pretrainer(steps=200, losses={"lowres_mse": 1.0}, learning_rate=1e-3, freeze_bn=True)
    for variable in trainer.generator.tail.trainable_variables:
        variable.assign(0.8 * variable)
    lr, hr = batch()

    def contrast():
        return float(np.std(trainer.generator(lr)) / np.std(hr))

    before = contrast()
    trainer.fit(tf.data.Dataset.from_tensors((lr, hr)).repeat(200), shuffle=False, verbose=0)
    assert before < 0.8 < 0.95 < contrast()


def test_jitter_pair_shifts_both_images_by_every_offset():
    rng = np.random.default_rng(0)
    hr = tf.constant(rng.uniform(-1, 1, (2, 12, 16, 3)), tf.float32)
    moves = set()
    for step in range(200):
        moved_hr, moved_sr = jitter_pair(hr, 0.5 * hr, 4, tf.constant(step, tf.int64))
        np.testing.assert_array_equal(0.5 * moved_hr, moved_sr)
        down, right = np.argwhere(np.all(moved_hr[0] == hr[0, 4, 4], axis=-1))[0] - 4
        mirrored = np.pad(hr, ((0, 0), (down, 0), (right, 0), (0, 0)), "reflect")
        np.testing.assert_array_equal(moved_hr, mirrored[:, :12, :16])
        moves.add((down, right))
    assert moves == {(down, right) for down in range(4) for right in range(4)}


def test_schedules_follow_the_recipe():
    def rate(step, **section):
        return learning_rate(PretrainConfig(steps=100, learning_rate=1e-3, **section), step)

    assert rate(99) == pytest.approx(1e-3)
    assert rate(49, schedule="drop") == pytest.approx(1e-3)
    assert rate(50, schedule="drop") == pytest.approx(1e-4)
    cosine = {"schedule": "cosine", "warmup_steps": 20}
    assert rate(0, **cosine) == 0
    assert rate(10, **cosine) == pytest.approx(5e-4)
    keras_own = keras.optimizers.schedules.CosineDecay(
        0.0, 80, alpha=0.01, warmup_target=1e-3, warmup_steps=20
    )
    for step in range(0, 101, 5):
        assert rate(step, **cosine) == pytest.approx(float(keras_own(step)), rel=1e-5)


def test_the_learning_rate_of_both_optimizers_is_set():
    trainer = gan_trainer(schedule="drop")
    for step, expected in ((4, 1e-4), (5, 1e-5)):
        trainer.set_learning_rate(step)
        for optimizer in (trainer.optimizer, trainer.d_optimizer):
            assert float(optimizer.learning_rate) == pytest.approx(expected)


@pytest.mark.parametrize("clipnorm", [None, 1e-3, 1e3])
def test_gradients_are_scaled_down_to_the_norm(clipnorm):
    trainer = pretrainer(global_clipnorm=clipnorm)
    norm = float(trainer.train_step(batch())["gradient_norm"])
    momentum = [v for v in trainer.optimizer.variables if "momentum" in v.path]
    # Adam's first momentum is a tenth of the gradient.
    used = 10 * float(tf.linalg.global_norm([v.value for v in momentum]))
    assert 1e-3 < norm < 1e3
    assert used == pytest.approx(1e-3 if clipnorm == 1e-3 else norm, rel=1e-3)


def test_replicas_share_the_norm(monkeypatch):
    monkeypatch.setattr(trainers, "_replicas", lambda: 4)
    assert pretrainer(global_clipnorm=2.0).optimizer.global_clipnorm == 0.5


def scaled_adam(**about):
    variable = tf.Variable([1.0, 1.0])
    optimizer = LossScaledAdam(0.1)
    for key, value in about.items():
        setattr(optimizer, key, value)
    optimizer.build([variable])
    return optimizer, variable


def test_scaled_losses_give_adams_own_steps():
    optimizer, variable = scaled_adam(steps_to_double=2)
    plain, same = keras.optimizers.Adam(0.1), tf.Variable([1.0, 1.0])
    for gradient in ([1e-3, -2.0], [3.0, 0.5], [-1.0, 1.0]):
        scaled = optimizer.scale_loss(1.0) * tf.constant(gradient)
        optimizer.apply(optimizer.unscale([scaled]), [variable])
        plain.apply([tf.constant(gradient)], [same])
        np.testing.assert_allclose(variable, same, rtol=1e-6)
    assert float(optimizer.scale) == 2 * LossScaledAdam.first_scale  # after two of the three


def test_a_gradient_that_is_not_finite_halves_the_scale_and_counts_as_zero():
    optimizer, variable = scaled_adam()
    (gradient,) = optimizer.unscale([tf.constant([1.0, np.inf])])
    np.testing.assert_array_equal(gradient, [0.0, 0.0])
    optimizer.apply([gradient], [variable])
    np.testing.assert_array_equal(variable, [1.0, 1.0])
    assert float(optimizer.scale) == LossScaledAdam.first_scale / 2
    assert (int(optimizer.finite_steps), int(optimizer.iterations)) == (0, 1)


def test_float16_trains_both_networks_and_the_logs_are_those_of_float32():
    logs = {}
    for dtype in ("float32", "mixed_float16"):
        keras.utils.set_random_seed(0)
        pair = [SRResNet(blocks=1, filters=8, dtype=d) for d in (dtype, "float32")]
        for model in pair:
            model.build()
        discriminator = UNetDiscriminator(filters=8, dtype=dtype)
        discriminator.build((None, 32, 32, 3))
        config = GanConfig(steps=10, losses=MSE_GAN, start_from=None)
        trainer = GanTrainer(*pair, discriminator, losses_of(config), config)
        before = values(trainer.generator), values(discriminator)
        logs[dtype] = {name: float(v) for name, v in trainer.train_step(batch()).items()}
    assert all(type(optimizer) is LossScaledAdam for optimizer in trainer.optimizers)
    assert logs["mixed_float16"] == pytest.approx(logs["float32"], rel=0.02)
    assert all(changed(before[1], discriminator)) and any(changed(before[0], trainer.generator))


def test_a_gradient_that_one_replica_spoils_counts_as_zero_on_all():
    program = """
import numpy as np, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from srgan_tf.training.trainers import LossScaledAdam
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
with strategy.scope():
    variable = tf.Variable([1.0])
    optimizer = LossScaledAdam(0.1)
    optimizer.build([variable])
gradients = strategy.experimental_distribute_values_from_function(
    lambda context: tf.constant([[1.0], [np.inf]][context.replica_id_in_sync_group])
)
@tf.function
def step(gradient):
    optimizer.apply(optimizer.unscale([gradient]), [variable])
strategy.run(step, (gradients,))
for each, expected in ((variable, 1.0), (optimizer.scale.value, LossScaledAdam.first_scale / 2)):
    for value in strategy.experimental_local_results(each):
        assert np.all(value == expected), value
"""
    subprocess.run([sys.executable, "-c", program], check=True)
