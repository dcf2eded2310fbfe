"""Graphs rounded as in an 8-bit runtime."""

import numpy as np
import pytest
import tensorflow as tf

from srgan_tf.export.graph import inference_graph
from srgan_tf.export.quantize import FakeQuantGraph, _round_kernel, measure_ranges, round_weights
from srgan_tf.models import ECBSR


@pytest.fixture(scope="module")
def graph(generator):
    return inference_graph(generator, eight_bit=True)


@pytest.fixture(scope="module")
def lr(photo):
    return photo[None].astype(np.float32) / 255


def test_ranges_are_over_all_photos(graph, lr):
    dark, bright = measure_ranges(graph, [lr * 0.1]), measure_ranges(graph, [lr])
    both = measure_ranges(graph, [lr * 0.1, lr])
    assert set(both) == set(dark) == set(bright)
    for name, (low, high) in both.items():
        assert low == min(dark[name][0], bright[name][0]) <= 0
        assert high == max(dark[name][1], bright[name][1]) >= 0
    assert both["input"] == (0.0, lr.max())


def test_each_tensor_between_operations_has_256_levels(graph, lr):
    ranges = measure_ranges(graph, [lr])
    rounded = FakeQuantGraph(graph, ranges)
    seen = {}

    def hook(name, x):
        x = rounded._round(name, tf.constant(x))
        seen[name] = x.numpy()
        return x

    graph(lr, hook, rounded._round_weights)
    for name, values in seen.items():
        assert len(np.unique(values)) <= 256 or name.startswith("head.")
    # Both operands of max(x, a·x) have one scale.
    steps = [np.diff(np.unique(seen[name])).min() for name in ("upsample0.conv", "upsample0")]
    assert steps[0] == pytest.approx(steps[1], rel=1e-3)


def test_the_range_of_a_float_layer_is_that_of_its_output_alone(graph, lr):
    ranges = measure_ranges(graph, [lr])
    ranges["head.conv"] = -9.0, 9.0  # before PReLU, in float
    assert FakeQuantGraph(graph, ranges)._ranges["head"] == ranges["head"]
    assert (
        FakeQuantGraph(graph, ranges)._ranges["upsample0"]
        == FakeQuantGraph(graph, ranges)._ranges["upsample0.conv"]
    )


def test_outputs_of_a_leaky_relu_have_levels_of_their_own(lr):
    ecbsr = ECBSR(2, blocks=1, filters=4, activation="leaky_relu")
    ecbsr.build()
    graph = inference_graph(ecbsr, eight_bit=True)
    ranges = measure_ranges(graph, [lr])
    rounded = FakeQuantGraph(graph, ranges)._ranges
    for name in ("head.conv", "head", "block0.conv", "block0"):
        assert rounded[name] == pytest.approx([0.85 * limit for limit in ranges[name]])
        assert ranges[name][0] < 0 < ranges[name][1]
    assert ranges["head"][0] == pytest.approx(0.2 * ranges["head.conv"][0])
    assert rounded["tail"] == (0.0, 1.0)


def test_weights_have_255_levels_a_channel(graph):
    rounded = FakeQuantGraph(graph, {"tail": (0.0, 1.0)})
    kernel = graph.layers[1].kernel
    values = rounded._round_weights(graph.layers[1].name, kernel).numpy()
    step = np.abs(kernel).max((0, 1, 2)) / 127
    np.testing.assert_allclose(values / step, np.rint(values / step), atol=1e-3)
    assert np.abs(values - kernel).max() <= 0.5001 * step.max()
    head = graph.layers[0]
    assert rounded._round_weights("head", head.kernel) is head.kernel


def test_weights_are_rounded_so_that_errors_cancel(graph, lr):
    weights = {f"{layer.name}.weights" for layer in graph.layers}
    rounded = round_weights(graph, [lr])
    other = lr[:, ::-1] * 0.8
    exact = graph(other).numpy()
    nearest, cancelling = (
        np.abs(FakeQuantGraph(g, {"tail": (0.0, 1.0)}, weights)(other) - exact).mean()
        for g in (graph, rounded)
    )
    assert 0 < cancelling < 0.5 * nearest
    for before, after in zip(graph.layers, rounded.layers, strict=True):
        np.testing.assert_array_equal(after.bias, before.bias)
        largest = np.abs(before.kernel).max((0, 1, 2))
        levels = after.kernel * 127 / largest
        np.testing.assert_allclose(levels, np.rint(levels), atol=1e-3)
        # A converter finds the same levels.
        np.testing.assert_allclose(np.abs(after.kernel).max((0, 1, 2)), largest, rtol=1e-6)


def test_no_weight_is_better_a_level_up_or_down():
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(3, 3, 2, 4)).astype(np.float32)
    inputs = 0.1 * rng.normal(size=(200, 18)) + rng.normal(size=(200, 1))  # similar photos
    moments = inputs.T @ inputs
    levels = np.abs(kernel).max((0, 1, 2)) / 127

    def errors(rounded):
        return np.square(inputs @ (rounded - kernel).reshape(18, 4)).sum(0)

    result = _round_kernel(kernel, moments)
    best = errors(result)
    assert best.sum() < 0.3 * errors(np.rint(kernel / levels) * levels).sum()
    for index in np.ndindex(3, 3, 2):
        for step in (-1, 1):
            changed = result.copy()
            changed[index] += step * levels
            largest = np.abs(kernel[index]) >= 126.9 * levels
            assert (largest | (errors(changed) > 0.95 * best)).all()


def test_weights_without_inputs_go_to_the_nearest_level():
    kernel = np.random.default_rng(0).normal(size=(1, 1, 5, 3)).astype(np.float32)
    kernel[..., 2] = 0
    levels = np.maximum(np.abs(kernel).max((0, 1, 2)), 1e-6) / 127
    nearest = np.rint(kernel / levels) * levels
    np.testing.assert_allclose(_round_kernel(kernel, np.zeros((5, 5))), nearest, rtol=1e-6)


def test_only_the_named_tensors_are_rounded(graph, lr):
    ranges = measure_ranges(graph, [lr])
    exact = graph(lr).numpy()
    np.testing.assert_array_equal(FakeQuantGraph(graph, ranges, only=set())(lr), exact)
    error = {
        only: np.abs(FakeQuantGraph(graph, ranges, only={only})(lr) - exact).mean()
        for only in ("upsample0", "upsample0.weights", "input")
    }
    low, high = FakeQuantGraph(graph, ranges)._ranges["upsample0"]
    # Values move by a quarter of a step on average, and the last layer nearly copies them.
    assert error["upsample0"] == pytest.approx((high - low) / 255 / 4, rel=0.2)
    step = np.mean(np.abs(graph.layers[-2].kernel).max((0, 1, 2))) / 127
    assert 0.1 * step < error["upsample0.weights"] < 2 * step
    assert error["input"] < 1e-6  # photos have 256 levels


def test_all_rounded_is_close(graph, lr):
    difference = FakeQuantGraph(graph, measure_ranges(graph, [lr]))(lr) - np.clip(graph(lr), 0, 1)
    assert 0 < np.abs(difference).mean() < 2 / 255
