"""Trains a generator: `python train.py --stage pretrain|gan`; see --help."""

from srgan_tf.cli.train import main

if __name__ == "__main__":
    main()
