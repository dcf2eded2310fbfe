"""A smoke test of training and enlarging on a GPU, skipped without one."""

import numpy as np
import pytest
import tensorflow as tf

from srgan_tf.config import Config, PretrainConfig
from srgan_tf.inference.upscaler import Upscaler
from srgan_tf.training.run import build_trainer

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not tf.config.list_physical_devices("GPU"), reason="no GPU"),
]


@pytest.fixture(autouse=True)
def full_float32():
    """Disable TF32, which rounds the factors of products to 10 bits."""
    tf.config.experimental.enable_tensor_float_32_execution(False)
    yield
    tf.config.experimental.enable_tensor_float_32_execution(True)


def test_a_training_step_has_the_loss_of_the_cpu():
    lr = tf.random.stateless_uniform((2, 8, 8, 3), (0, 0))
    hr = tf.random.stateless_uniform((2, 32, 32, 3), (0, 1), -1, 1)
    losses = []
    for device in ("/CPU:0", "/GPU:0"):
        with tf.device(device):
            tf.keras.utils.set_random_seed(0)
            config = Config(name="test", precision="float32", pretrain=PretrainConfig(steps=10))
            trainer = build_trainer(config, config.phases()[0].section, None)
            step = tf.function(trainer.train_step)
            losses.append([float(step((lr, hr))["loss"]) for _ in range(3)])
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_enlarging_is_within_one_level_of_the_cpu():
    photo = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    on_gpu = Upscaler("srgan-mobile").upscale(photo)  # auto: TensorFlow on the GPU
    on_cpu = Upscaler("srgan-mobile", engine="litert").upscale(photo)
    assert np.abs(on_gpu.astype(int) - on_cpu).max() <= 1
