"""The range of HR and SR in training."""

import numpy as np
import pytest
import tensorflow as tf

from srgan_tf.ranges import denormalize, normalize


@pytest.mark.parametrize("array", [np.float32, tf.constant])
def test_levels_become_values_from_minus_one_to_one_and_return(array):
    values = normalize(array(np.array([0, 51, 127.5, 255], np.float32)))
    np.testing.assert_allclose(values, [-1, -0.6, 0, 1], atol=1e-7)
    levels = np.arange(256, dtype=np.float32)
    np.testing.assert_array_equal(np.rint(denormalize(normalize(array(levels)))), levels)
