"""A tiny generator, and its SavedModel."""

import keras
import numpy as np
import pytest

from srgan_tf.export.saved_model import write_saved_model
from srgan_tf.models import SRResNet

MAX_PIXELS = 3000


@pytest.fixture(scope="session")
def generator():
    """A ×2 generator, bilinear upscaling with small noise on the weights."""
    keras.utils.set_random_seed(0)
    model = SRResNet(2, blocks=2, filters=8)
    model.build()
    rng = np.random.default_rng(0)
    for variable in model.trainable_variables:
        variable.assign(variable.numpy() + rng.normal(0, 0.01, variable.shape))
    return model


@pytest.fixture(scope="session")
def saved_model(generator, tmp_path_factory):
    """The folder of a SavedModel, tiny/3, with at most 3000 pixels per image."""
    folder = tmp_path_factory.mktemp("saved_model") / "tiny" / "3"
    write_saved_model(generator, folder, "tiny", MAX_PIXELS)
    return folder


@pytest.fixture(scope="session")
def photo():
    """A smooth photo with an edge, uint8 [30, 40, 3]."""
    y, x = np.mgrid[:30, :40]
    levels = np.stack([4 * y + 60, 3 * x + 40, 200 - 3 * y], axis=-1)
    levels[y > x] //= 2
    return levels.astype(np.uint8)
