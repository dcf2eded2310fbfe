import numpy as np

from srgan_tf.models import SRResNet
from srgan_tf.training.ema import MovingAverage


def pair():
    models = [SRResNet(blocks=1, filters=4) for _ in range(2)]
    for model in models:
        model.build()
    return models


def test_starts_as_a_copy_and_lags_behind_by_the_closed_form():
    source, average = pair()
    ema = MovingAverage(source, average, decay=0.9)
    start = [np.array(v) for v in source.variables]
    for a, s in zip(average.variables, start, strict=True):
        np.testing.assert_array_equal(a, s)

    for variable in source.variables:
        variable.assign_add(np.ones(variable.shape))
    ema.update(np.int64(0))  # with a decay of 0.1
    np.testing.assert_allclose(average.variables[0], start[0] + 0.9, rtol=1e-5)
    remaining = np.prod([min(0.9, (1 + t) / (10 + t)) for t in range(3)])
    ema.reset()
    for variable in source.variables:
        variable.assign_add(np.ones(variable.shape))
    for step in range(3):
        ema.update(np.int64(step))
    for a, s in zip(average.variables, start, strict=True):
        np.testing.assert_allclose(a, s + 2 - remaining, rtol=1e-4, atol=1e-4)


def test_statistics_are_averaged_too_and_zero_decay_copies():
    source, average = pair()
    ema = MovingAverage(source, average, decay=0.0)
    source.trunk_bn.moving_mean.assign(np.full(4, 3.0))
    ema.update(np.int64(5))
    np.testing.assert_allclose(average.trunk_bn.moving_mean, 3.0)
