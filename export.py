"""Exports a generator: `python export.py --saved-model --tflite`; see --help."""

from srgan_tf.cli.export import main

if __name__ == "__main__":
    main()
