"""Convert released generators to LiteRT models, which `srgan upscale` runs.

    python tools/release_litert.py [NAME...]

Each NAME.keras in srgan_tf/weights that can be exported is converted to NAME.tflite beside it, with
16-bit weights, float32 arithmetic and any input size. Run it whenever weights are released;
tests/test_weights.py compares the results with the Keras models.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from srgan_tf import weights
from srgan_tf.export.tflite import convert
from srgan_tf.files import atomic_write
from srgan_tf.models import ECBSR, SRResNet


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="default: all released ones")
    for name in parser.parse_args().names or weights.released():
        generator = weights.load_generator(name)
        if not isinstance(generator, SRResNet | ECBSR):
            continue
        path = Path(weights.__file__).parent / f"{name}.tflite"
        with atomic_write(path) as temporary:
            temporary.write_bytes(convert(generator, "float16", name))
        print(f"{path.name}: {path.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
