"""Trains a generator: `python train.py --stage pretrain|gan`; see --help."""

from srgan_tf.cli import train

if __name__ == "__main__":
    train()
