"""Keras models: the generator and the discriminator."""

from srgan_tf.models.discriminator import Discriminator
from srgan_tf.models.srresnet import SRResNet

__all__ = ["Discriminator", "SRResNet"]
