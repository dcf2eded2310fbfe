"""Keras models: the generators and the discriminator."""

from srgan_tf import keras_settings  # noqa: F401
from srgan_tf.models.baselines import DRCN, ESPCN, SRCNN, LumaGenerator
from srgan_tf.models.discriminator import Discriminator
from srgan_tf.models.srresnet import SRResNet

Generator = SRResNet | LumaGenerator
ARCHITECTURES: dict[str, type[Generator]] = {
    "srresnet": SRResNet,
    "srcnn": SRCNN,
    "espcn": ESPCN,
    "drcn": DRCN,
}

__all__ = [
    "ARCHITECTURES",
    "DRCN",
    "ESPCN",
    "SRCNN",
    "Discriminator",
    "Generator",
    "LumaGenerator",
    "SRResNet",
]
