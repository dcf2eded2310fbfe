"""Engines: one interface for whatever carries out a generator."""

import tensorflow as tf

from srgan_tf.engines import GeneratorEngine
from srgan_tf.models import SRResNet


def test_one_graph_for_all_sizes():
    traces = []

    class Counting(SRResNet):
        def features(self, inputs, training=False):
            traces.append(inputs.shape)
            return super().features(inputs, training)

    model = Counting(4, 1, 8)
    model.build()
    engine = GeneratorEngine(model)
    for size in (5, 6, 7):
        engine(tf.zeros([1, size, size + 1, 3]))
    assert len(traces) == 1
