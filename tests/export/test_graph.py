"""The inference graph, against the Keras model."""

import numpy as np
import pytest
import tensorflow as tf

from srgan_tf.errors import UserError
from srgan_tf.export.graph import inference_graph, rescale, streams, with_low_slopes
from srgan_tf.models import ECBSR, ESPCN, SRResNet

LR = np.random.default_rng(0).uniform(0, 1, (2, 9, 11, 3)).astype(np.float32)


@pytest.fixture(params=[2, 4, 8, "prelu", "leaky_relu", "relu"])
def generator(request):
    if isinstance(request.param, str):
        return trained(ECBSR(2, 2, 8, activation=request.param))
    return trained(SRResNet(request.param, blocks=2, filters=8))


def trained(model):
    """A generator with random weights, some slopes above 1."""
    model.build()
    rng = np.random.default_rng(1)
    constant = [v for v in model.non_trainable_variables if "alpha" in v.path]  # fixed
    for variable in model.variables:
        if any(variable is other for other in constant):
            continue
        noise = rng.uniform(0.5, 1.5, variable.shape) if "variance" in variable.path else None
        if noise is None:
            noise = variable.numpy() + rng.normal(0, 0.1, variable.shape)
        if "alpha" in variable.path:
            noise = rng.uniform(-0.5, 1.5, variable.shape)
        variable.assign(noise)
    return model


def grey_levels(generator, graph):
    """Return the largest difference, in grey levels."""
    return np.abs((generator(LR).numpy() + 1) / 2 - graph(LR).numpy()).max() * 255


@pytest.mark.parametrize("eight_bit", [False, True])
def test_equals_the_model(generator, eight_bit):
    graph = inference_graph(generator, eight_bit)
    assert graph.scale == generator.scale
    assert grey_levels(generator, graph) < 0.01


def test_low_slopes_are_at_most_1_and_compute_the_same(generator):
    for but in ((), ["head"]):
        graph = with_low_slopes(inference_graph(generator), but)
        assert grey_levels(generator, graph) < 0.01
        high = {
            layer.name
            for layer in graph.layers
            if layer.slopes is not None and layer.slopes.max() > 1
        }
        assert high <= set(but)


def test_constants_are_float32_arrays(generator):
    for layer in inference_graph(generator, eight_bit=True).layers:
        for array in (layer.kernel, layer.bias, layer.centre, layer.slopes, layer.anchor):
            assert array is None or (type(array) is np.ndarray and array.dtype == np.float32)


def test_large_centre_taps_are_a_separate_kernel():
    """A new generator passes RGB by centre taps of 1 and 2 in its first and last kernel."""
    generator = SRResNet(4, blocks=1, filters=16)
    generator.build()
    head, *_, tail = inference_graph(generator, eight_bit=True).layers
    assert np.count_nonzero(head.centre) == 3 and np.count_nonzero(tail.centre) == 3 * 4
    assert np.abs(head.kernel[..., :3]).max() == 0
    assert grey_levels(generator, inference_graph(generator, eight_bit=True)) < 0.01


@pytest.mark.parametrize("model", [SRResNet, ECBSR])
def test_the_radius_is_that_of_the_outputs(model):
    graph = inference_graph(trained(model(2, blocks=1, filters=4)))
    side = 2 * graph.radius + 9
    lr = tf.random.stateless_uniform([1, side, side, 3], [0, 0])
    changed = tf.concat([1 - lr[:, :4], lr[:, 4:]], axis=1)
    same = (graph(lr) == graph(changed)).numpy().all(axis=(0, 2, 3))
    assert same[2 * (4 + graph.radius) :].all() and not same[: 2 * 4].any()


@pytest.mark.parametrize("eight_bit", [False, True])
def test_rescaled_channels_compute_the_same(generator, eight_bit):
    graph = inference_graph(generator, eight_bit)
    rng = np.random.default_rng(2)
    firsts = streams(graph)
    factors = {first: rng.uniform(0.1, 10, 8) for first in firsts}
    each = [factors[f] if graph.layers[f].slopes is not None else None for f in firsts]
    rescaled = rescale(graph, each)
    assert grey_levels(generator, rescaled) < 0.01
    assert np.abs(rescaled.layers[0].kernel - graph.layers[0].kernel).max() > 0.1


def test_the_hook_gets_each_tensor_and_may_change_it():
    graph = inference_graph(trained(SRResNet(2, blocks=1, filters=4)))
    seen = {}
    doubled = graph(LR, hook=lambda name, x: seen.setdefault(name, x) * (1 + (name == "tail")))
    assert list(seen) == [
        "input",
        *("head.conv", "head", "block0.conv1.conv", "block0.conv1"),
        *("block0.conv2.branch", "block0.conv2", "trunk.branch", "trunk"),
        *("upsample0.conv", "upsample0", "tail"),
    ]
    np.testing.assert_array_equal(doubled, 2 * graph(LR))


def test_baselines_are_not_exported():
    with pytest.raises(UserError, match="ESPCN"):
        inference_graph(ESPCN())
