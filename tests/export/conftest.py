"""A tiny generator, and its SavedModel."""

import keras
import numpy as np
import pytest

from srgan_tf.export.saved_model import write_saved_model
from srgan_tf.models import SRResNet

MAX_PIXELS = 3000


@pytest.fixture(scope="session")
def generator():
    """×2, with small noise on the bilinear start: an ordinary picture comes out."""
    keras.utils.set_random_seed(0)
    model = SRResNet(2, blocks=2, filters=8)
    model.build()
    rng = np.random.default_rng(0)
    for variable in model.trainable_variables:
        variable.assign(variable.numpy() + rng.normal(0, 0.01, variable.shape))
    return model


@pytest.fixture(scope="session")
def saved_model(generator, tmp_path_factory):
    """A folder tiny/3 of at most 3000 pixels a request."""
    folder = tmp_path_factory.mktemp("saved_model") / "tiny" / "3"
    write_saved_model(generator, folder, "tiny", MAX_PIXELS)
    return folder


@pytest.fixture(scope="session")
def photo():
    """uint8 [30, 40, 3]: smooth, with an edge."""
    y, x = np.mgrid[:30, :40]
    levels = np.stack([4 * y + 60, 3 * x + 40, 200 - 3 * y], axis=-1)
    levels[y > x] //= 2
    return levels.astype(np.uint8)
