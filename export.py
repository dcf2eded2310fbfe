"""Exports a generator: `srgan export`, from a checkout; see --help."""

import sys

from srgan_tf.cli import main

if __name__ == "__main__":
    main(["export", *sys.argv[1:]])
