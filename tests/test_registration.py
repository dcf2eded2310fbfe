"""Generators loaded by Keras without this project's functions, in new processes."""

import subprocess
import sys

import pytest

from srgan_tf.models import ESPCN, SRResNet

pytestmark = pytest.mark.slow


def python(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    for model in (SRResNet(2, blocks=1, filters=4), ESPCN(2)):
        model.build()
        model.save(folder / f"{model.name}.keras")
    return sorted(map(str, folder.iterdir()))


@pytest.mark.parametrize("order", ["srgan_tf, keras", "keras, srgan_tf"])
def test_keras_loads_generators(files, order):
    python(f"import {order}\nfor file in {files}: keras.models.load_model(file)")


def test_loaded_generators_can_be_exported_for_photos_of_any_size(files, tmp_path):
    folder = str(tmp_path / "exported")
    python(
        f"""
import srgan_tf, keras, numpy as np, tensorflow as tf
photo = np.random.default_rng(0).random((1, 9, 12, 3), np.float32)
for file in {files}:
    model = keras.models.load_model(file)
    lite = tf.lite.TFLiteConverter.from_keras_model(model).convert()
    expected = model(photo).numpy()
    model.export({folder!r}, verbose=False)
    loaded = tf.saved_model.load({folder!r})
    np.testing.assert_allclose(loaded.serve(photo), expected, atol=1e-5)
    assert loaded.serve(photo[:, :5]).shape == (1, 10, 24, 3)
    interpreter = tf.lite.Interpreter(model_content=lite)
    assert interpreter.get_input_details()[0]["shape_signature"].tolist() == [-1, -1, -1, 3]
"""
    )


def test_importing_srgan_tf_does_not_import_keras_or_tensorflow():
    python("import sys, srgan_tf; assert not {'keras', 'tensorflow'} & set(sys.modules)")
    python("import importlib.util, srgan_tf; assert importlib.util.find_spec('keras')")


def test_an_application_keeps_its_keras_backend():
    python(
        """
import os
os.environ["KERAS_BACKEND"] = "jax"
from srgan_tf import Upscaler
Upscaler("srgan-mobile")
assert os.environ["KERAS_BACKEND"] == "jax"
"""
    )
