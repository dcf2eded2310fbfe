"""Generators, discriminators, and their layers, against Keras' layers."""

import itertools
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from srgan_tf.models import ECBSR, Discriminator, SRResNet
from srgan_tf.models.ecbsr import EDGES, EdgeConv2D
from srgan_tf.models.layers import BatchNormalization, NarrowConv2D, PReLU, synchronize
from srgan_tf.models.srresnet import ResidualBlock

RNG = np.random.default_rng(0)
FEATURES = RNG.normal(1, 2, (3, 7, 9, 5)).astype(np.float32)


def randomize(model) -> None:
    """Set random weights, so that each affects the result."""
    rng = np.random.default_rng(1)
    model.set_weights([np.abs(w + rng.normal(0, 0.1, w.shape)) for w in model.get_weights()])


def parameters(model) -> int:
    return sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)


def run(layer, inputs, **kwargs):
    """Return outputs, and gradients of a function of them for the inputs and each weight."""
    inputs = tf.constant(inputs)
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs = layer(inputs, **kwargs)
        weights = tf.linspace(-1.0, 2.0, tf.size(outputs))
        loss = tf.reduce_sum(tf.reshape(outputs, [-1]) * weights)
    return outputs, tape.gradient(loss, [inputs, *layer.trainable_variables])


def assert_same(layer, reference, inputs, **kwargs):
    outputs, gradients = run(layer, inputs, **kwargs)
    expected, expected_gradients = run(reference, inputs, **kwargs)
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-4)
    assert len(gradients) == len(expected_gradients)
    for gradient, wanted in zip(gradients, expected_gradients, strict=True):
        np.testing.assert_allclose(gradient, wanted, rtol=1e-3, atol=1e-3)


# Layers


@pytest.mark.parametrize("size", [3, 9])
@pytest.mark.parametrize("channels", [1, 3])
def test_narrow_conv_is_a_convolution(size, channels):
    narrow = NarrowConv2D(channels, size)
    reference = keras.layers.Conv2D(channels, size, padding="same")
    for layer in (narrow, reference):
        layer.build((None, None, None, 5))
    randomize(narrow)
    reference.set_weights(narrow.get_weights())
    assert_same(narrow, reference, FEATURES)


def test_narrow_conv_gives_float32_under_mixed_precision():
    assert NarrowConv2D(3, 9, dtype="mixed_bfloat16")(FEATURES).dtype == tf.float32


def test_prelu_is_keras_own():
    prelu = PReLU()
    reference = keras.layers.PReLU(shared_axes=[1, 2])
    for layer in (prelu, reference):
        layer.build((None, None, None, 5))
    np.testing.assert_array_equal(prelu.alpha, np.full((1, 1, 5), 0.25))
    slopes = [np.linspace(-0.5, 1.5, 5).reshape(1, 1, 5)]
    prelu.set_weights(slopes)
    reference.set_weights(slopes)
    assert_same(prelu, reference, FEATURES)


def test_batch_normalization_is_keras_own():
    layers = [BatchNormalization(), keras.layers.BatchNormalization()]
    for layer in layers:
        layer.build((None, None, None, 5))
        randomize(layer)
    for inputs in (FEATURES, 3 * FEATURES - 1):  # the statistics are updated twice
        assert_same(*layers, inputs, training=True)
    moving = [np.stack([layer.moving_mean, layer.moving_variance]) for layer in layers]
    np.testing.assert_allclose(moving[0], moving[1], rtol=1e-5)
    assert_same(*layers, FEATURES, training=False)
    after = [np.stack([layer.moving_mean, layer.moving_variance]) for layer in layers]
    np.testing.assert_array_equal(after[0], moving[0])  # inference updates nothing


def test_frozen_batch_normalization_keeps_its_statistics():
    layer = BatchNormalization()
    layer.build(FEATURES.shape)
    randomize(layer)
    layer.trainable = False
    before = layer.get_weights()
    np.testing.assert_array_equal(layer(FEATURES, training=True), layer(FEATURES, training=False))
    for a, b in zip(before, layer.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
@pytest.mark.parametrize("synchronized", [True, False])
def test_batch_normalization_is_synchronized_over_replicas_by_choice(synchronized, tmp_path):
    program = """
import sys, numpy as np, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from srgan_tf.models.layers import BatchNormalization
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
with strategy.scope():
    layer = BatchNormalization(synchronized=sys.argv[2] == "True")
    layer.build((None, None, None, 5))
inputs = np.load(sys.argv[1])
parts = strategy.experimental_distribute_values_from_function(
    lambda context: inputs[context.replica_id_in_sync_group, None]
)
outputs = strategy.run(tf.function(lambda x: layer(x, training=True)), (parts,))
np.save(sys.argv[1], np.concatenate(strategy.experimental_local_results(outputs)))
means = strategy.experimental_local_results(layer.moving_mean.value)
np.save(sys.argv[3], np.stack(means))
"""
    file, statistics = tmp_path / "outputs.npy", tmp_path / "means.npy"
    np.save(file, FEATURES[:2])
    words = [sys.executable, "-c", program, file, str(synchronized), statistics]
    subprocess.run(words, check=True)
    outputs = np.load(file)
    parts = [FEATURES[:2]] if synchronized else [FEATURES[:1], FEATURES[1:2]]
    expected = [keras.layers.BatchNormalization()(part, training=True) for part in parts]
    np.testing.assert_allclose(outputs, np.concatenate(expected), rtol=1e-4, atol=1e-4)
    mean = 0.01 * np.mean(FEATURES[:2], (0, 1, 2))
    np.testing.assert_allclose(np.load(statistics), [mean, mean], rtol=1e-4, atol=1e-6)


def test_the_models_batch_normalization_is_synchronized_by_choice():
    model = Discriminator(filters=2, dense_units=4)
    synchronize(model, False)
    assert not any(bn.synchronized for bn in model.bns)
    generator = SRResNet(blocks=1, filters=4)
    synchronize(generator, False)
    layers = generator.trunk_bn, generator.trunk[0].bn1, generator.trunk[0].bn2
    assert not any(bn.synchronized for bn in layers)


@pytest.mark.parametrize("training", [True, False])
def test_a_residual_block_starts_as_the_identity(training):
    block = ResidualBlock(5)
    np.testing.assert_array_equal(block(FEATURES, training=training), FEATURES)
    randomize(block)
    assert np.mean(np.abs(block(FEATURES, training=training) - FEATURES)) > 0.1


# Generator


def test_the_papers_generator_has_1_55_million_parameters():
    prelu, bn = 64, 2 * 64
    head = 9 * 9 * 3 * 64 + 64 + prelu
    block = 2 * (3 * 3 * 64 * 64 + bn) + prelu
    trunk_end = 3 * 3 * 64 * 64 + bn
    upsampling = 3 * 3 * 64 * 256 + 256 + prelu
    tail = 9 * 9 * 64 * 3 + 3
    expected = head + 16 * block + trunk_end + 2 * upsampling + tail
    model = SRResNet()
    model.build()
    assert parameters(model) == expected == pytest.approx(1.55e6, rel=0.01)


@pytest.mark.parametrize("scale", [2, 4, 8])
@pytest.mark.parametrize("size", [(1, 1), (5, 13)])
def test_any_input_size_is_enlarged_by_the_scale(scale, size):
    outputs = SRResNet(scale, blocks=1, filters=3)(np.zeros((2, *size, 3), np.float32))
    assert outputs.shape == (2, size[0] * scale, size[1] * scale, 3)
    assert outputs.dtype == tf.float32


@pytest.mark.parametrize("scale", [2, 4, 8])
@pytest.mark.parametrize("filters", [3, 8])
def test_a_new_generator_is_repeated_bilinear_doubling(scale, filters):
    lr = RNG.uniform(0, 1, (1, 16, 20, 3)).astype(np.float32)
    expected = lr
    while expected.shape[1] < scale * lr.shape[1]:
        size = (2 * expected.shape[1], 2 * expected.shape[2])
        expected = tf.image.resize(expected, size, "bilinear").numpy()
    outputs = SRResNet(scale, blocks=2, filters=filters)(lr)
    inner = np.s_[:, 2 * scale : -2 * scale, 2 * scale : -2 * scale]
    np.testing.assert_allclose(outputs[inner], (2 * expected - 1)[inner], atol=1e-5)


@pytest.mark.parametrize(
    "arguments",
    [
        {"scale": 3},
        {"scale": 1},
        {"blocks": 0},
        {"filters": 2},
        {"filters": 0},
    ],
)
def test_bad_generator_arguments_are_refused(arguments):
    with pytest.raises(ValueError, match=r"must be one of|needs blocks"):
        SRResNet(**arguments)


# ECBSR


def test_an_edge_convolution_is_the_sum_of_its_branches():
    layer = EdgeConv2D(4)
    layer.build(FEATURES.shape)
    randomize(layer)
    direct, expand, squeeze, edges, gains, bias = layer.get_weights()

    def conv(x, kernel):
        return tf.nn.conv2d(x, kernel, 1, "SAME")

    expected = conv(FEATURES, direct) + conv(conv(FEATURES, expand[None, None]), squeeze) + bias
    for edge, mixing, gain in zip(EDGES, edges, gains, strict=True):
        depthwise = np.repeat(edge[:, :, None, None], 4, axis=2)
        mixed = conv(FEATURES, mixing[None, None])
        expected += gain * tf.nn.depthwise_conv2d(mixed, depthwise, [1, 1, 1, 1], "SAME")
    np.testing.assert_allclose(layer(FEATURES), expected, rtol=1e-4, atol=1e-3)


def test_each_branch_of_a_new_edge_convolution_learns():
    layer = EdgeConv2D(4)
    layer.build(FEATURES.shape)
    for _ in range(2):  # `edges`, once the gains are not 0
        _, (_, *gradients) = run(layer, FEATURES)
        for variable, gradient in zip(layer.trainable_variables, gradients, strict=True):
            variable.assign_sub(1e-3 * gradient)
    assert all(np.abs(gradient).max() > 0 for gradient in gradients)


@pytest.mark.parametrize("start", ["he", "identity"])
def test_a_new_edge_convolution_keeps_the_power_of_its_input(start):
    layer = EdgeConv2D(32, start)
    x = np.maximum(RNG.normal(size=(1, 32, 32, 32)), 0).astype(np.float32)  # behind ReLU
    x[..., ::2] *= -1  # without the mean, whose sign is random
    added = layer(x)[:, 1:-1, 1:-1].numpy() - (x[:, 1:-1, 1:-1] if start == "identity" else 0)
    he = 2 * np.mean(x**2)  # ReLU will halve it
    assert np.mean(added**2) == pytest.approx(he * (0.1 if start == "identity" else 1), rel=0.25)


def test_a_new_edge_convolution_gives_zeros():
    output = EdgeConv2D(5, "zeros")(FEATURES)
    np.testing.assert_array_equal(output, np.zeros(output.shape))


def test_an_edge_convolution_is_the_identity_of_as_many_channels_only():
    with pytest.raises(ValueError, match="3 channels can't start as 4 channels' identity"):
        EdgeConv2D(4, "identity").build((None, None, None, 3))


@pytest.mark.parametrize("scale", [2, 4, 8])
@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_a_new_ecbsr_repeats_pixels(scale, dtype):
    lr = RNG.uniform(0, 1, (1, 9, 7, 3)).astype(np.float32)
    outputs = ECBSR(scale, blocks=2, filters=4, dtype=dtype)(lr)
    assert outputs.dtype == tf.float32
    expected = 2 * lr.repeat(scale, axis=1).repeat(scale, axis=2) - 1
    np.testing.assert_allclose(outputs, expected, atol=1e-6 if dtype == "float32" else 1e-2)


def test_ecbsr_counts_the_parameters_of_plain_convolutions():
    model = ECBSR(4, blocks=10, filters=32)
    model.build()
    convolutions = [(3, 32), *[(32, 32)] * 10, (32, 48)]
    slopes = 11 * 32
    assert model.inference_parameters == sum(9 * i * o + o for i, o in convolutions) + slopes


@pytest.mark.parametrize(("activation", "slope"), [("leaky_relu", 0.2), ("relu", 0.0)])
def test_other_activations_have_no_slopes_to_learn(activation, slope):
    model = ECBSR(2, blocks=2, filters=4, activation=activation)
    model.build()
    assert not any("alpha" in variable.path for variable in model.trainable_variables)
    x = RNG.normal(size=(1, 3, 3, 4)).astype(np.float32)
    np.testing.assert_allclose(model.prelus[0](x), np.where(x > 0, x, slope * x), rtol=1e-6)


@pytest.mark.parametrize(
    "arguments", [{"scale": 3}, {"blocks": 0}, {"filters": 0}, {"activation": "tanh"}]
)
def test_bad_arguments_of_ecbsr_are_refused(arguments):
    with pytest.raises(ValueError, match=r"must be one of|needs blocks"):
        ECBSR(**arguments)


def test_files_of_earlier_versions_are_loaded_if_they_are_the_papers():
    config = SRResNet(2, 2, 4).get_config()
    earlier = config | {"activation": "prelu", "upsampler": "staged"}
    assert SRResNet.from_config(earlier).get_config() == config
    with pytest.raises(ValueError, match="no longer supports upsampler subpixel"):
        SRResNet.from_config(earlier | {"upsampler": "subpixel"})


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize("kind", ["generator", "ecbsr", "discriminator"])
def test_saving_and_loading_changes_nothing(kind, dtype, tmp_path):
    if kind == "generator":
        model = SRResNet(2, blocks=2, filters=4, dtype=dtype)
    elif kind == "ecbsr":
        model = ECBSR(4, 2, 4, dtype=dtype)
    else:
        model = Discriminator(filters=2, dense_units=4, dtype=dtype)
    inputs = RNG.uniform(0, 1, (2, 16, 16, 3)).astype(np.float32)
    model(inputs)
    randomize(model)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert type(loaded) is type(model)
    assert loaded.get_config() == model.get_config()
    assert loaded.dtype_policy.name == dtype
    for a, b in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(loaded(inputs), model(inputs))


@pytest.mark.parametrize("model", [SRResNet(2, 1, 4), Discriminator(2, 4)], ids=["G", "D"])
def test_training_mode_uses_the_batchs_statistics_and_moves_the_averages(model):
    inputs = RNG.uniform(0, 1, (2, 16, 16, 3)).astype(np.float32)
    model(inputs)
    randomize(model)
    before = [variable.numpy() for variable in model.non_trainable_variables]
    inference, training = model(inputs), model(inputs, training=True)
    assert np.max(np.abs(training - inference)) > 1e-3
    after = model.non_trainable_variables
    assert before and all(np.any(v != b) for v, b in zip(after, before, strict=True))


# Discriminator


def test_the_papers_discriminator_counts_23_6_million_parameters():
    widths = [64, 64, 128, 128, 256, 256, 512, 512]
    convs = sum(3 * 3 * a * b + 2 * b for a, b in itertools.pairwise(widths))
    head = 3 * 3 * 3 * 64 + 64
    dense = 6 * 6 * 512 * 1024 + 1024  # 96 is halved four times
    model = Discriminator()
    model.build((None, 96, 96, 3))
    assert parameters(model) == head + convs + dense + 1024 + 1


@pytest.mark.parametrize("side", [16, 64, 96, 128])
def test_the_discriminator_gives_one_logit_per_crop(side):
    model = Discriminator(filters=2, dense_units=4)
    logits = model(RNG.uniform(-1, 1, (3, side, side, 3)))
    assert logits.shape == (3, 1)
    assert logits.dtype == tf.float32
    kernel, bias = model.logits.get_weights()
    model.logits.set_weights([kernel, bias - 50])
    assert np.all(model(RNG.uniform(-1, 1, (3, side, side, 3))) < -1)  # logits, not probabilities


@pytest.mark.parametrize("shape", [(None, 24, 32, 3), (None, 32, 24, 3), (None, None, None, 3)])
def test_the_discriminator_refuses_sides_that_are_no_multiples_of_16(shape):
    with pytest.raises(ValueError, match="multiples of 16"):
        Discriminator(filters=2, dense_units=4).build(shape)
