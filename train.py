"""Train a generator: the same as `srgan train`, from a checkout; see --help."""

import sys

from srgan_tf.cli import main

if __name__ == "__main__":
    main(["train", *sys.argv[1:]])
