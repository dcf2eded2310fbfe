"""The exponential moving average of a model's weights."""

from __future__ import annotations

import keras
import tensorflow as tf


class MovingAverage:
    """Keeps `average`, a model of the same shape, behind `source`.

    All variables are averaged, batch normalization's statistics too: averaged weights
    with the raw weights' statistics score a decibel lower in mid-training. The decay
    warms up as (1 + t) / (10 + t), so that the initial weights are soon forgotten.

    Args:
        source: the built model that is trained.
        average: a built model of the same class and size.
        decay: the final decay a step, in [0, 1); 0 copies.
    """

    def __init__(self, source: keras.Model, average: keras.Model, decay: float):
        self.average, self.decay = average, decay
        self._pairs = list(zip(average.variables, source.variables, strict=True))
        self.reset()

    def reset(self) -> None:
        """Starts anew from the source's present weights."""
        for average, variable in self._pairs:
            average.assign(variable)

    def update(self, step: tf.Tensor) -> None:
        """Takes one step, from within the replicas of a strategy.

        Args:
            step: integer scalar, updates so far, from 0.
        """
        step = tf.cast(step, tf.float32)
        rate = 1.0 - tf.minimum(self.decay, (1.0 + step) / (10.0 + step))

        def apply(strategy, rate):
            rate = strategy.experimental_local_results(rate)[0]
            for average, variable in self._pairs:
                strategy.extended.update(
                    average.value,
                    lambda a, v: a.assign_add(rate * (v - a)),
                    args=(variable.value,),
                    group=False,
                )

        tf.distribute.get_replica_context().merge_call(apply, args=(rate,))
