"""Network interpolation of two generators."""

import numpy as np
import pytest
from interpolate import interpolate

from srgan_tf.errors import UserError
from srgan_tf.models import SRResNet


def _generator(value: float, blocks: int = 1) -> SRResNet:
    generator = SRResNet(blocks=blocks, filters=4)
    generator.build()
    generator.set_weights([np.full_like(weight, value) for weight in generator.get_weights()])
    return generator


def test_every_weight_is_the_share_of_one_and_the_rest_of_the_other():
    between = interpolate(_generator(1.0), _generator(5.0), share=0.25)
    for weight in between.get_weights():
        np.testing.assert_array_equal(weight, 4.0)


def test_other_architectures_and_shares_are_refused():
    with pytest.raises(UserError, match="same architecture"):
        interpolate(_generator(1.0), _generator(1.0, blocks=2), share=0.5)
    with pytest.raises(UserError, match=r"1\.5"):
        interpolate(_generator(1.0), _generator(1.0), share=1.5)
