"""Keras models: generators and discriminators."""

from srgan_tf import keras_settings  # noqa: F401
from srgan_tf.models.baselines import DRCN, ESPCN, SRCNN, LumaGenerator
from srgan_tf.models.discriminator import Discriminator, UNetDiscriminator
from srgan_tf.models.ecbsr import ECBSR
from srgan_tf.models.generator import Generator
from srgan_tf.models.srresnet import SRResNet

ARCHITECTURES: dict[str, type[Generator]] = {
    "srresnet": SRResNet,
    "ecbsr": ECBSR,
    "srcnn": SRCNN,
    "espcn": ESPCN,
    "drcn": DRCN,
}
DISCRIMINATORS = {"srgan": Discriminator, "unet": UNetDiscriminator}

__all__ = [
    "ARCHITECTURES",
    "DISCRIMINATORS",
    "DRCN",
    "ECBSR",
    "ESPCN",
    "SRCNN",
    "Discriminator",
    "Generator",
    "LumaGenerator",
    "SRResNet",
    "UNetDiscriminator",
]
