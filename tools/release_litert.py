"""Makes the LiteRT models of the released generators, which `srgan upscale` runs.

    python tools/release_litert.py [NAME...]

Each NAME.keras in srgan_tf/weights that can be exported becomes NAME.tflite beside it: weights of
16 bits, arithmetic in float32, any input size. tests/test_weights.py holds them to the Keras
models. To be run whenever weights are released.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from srgan_tf import weights
from srgan_tf.export.tflite import convert
from srgan_tf.files import written_whole
from srgan_tf.models import ECBSR, SRResNet


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="default: all that are released")
    for name in parser.parse_args().names or weights.released():
        generator = weights.load_generator(name)
        if not isinstance(generator, SRResNet | ECBSR):
            continue
        path = Path(weights.__file__).parent / f"{name}.tflite"
        with written_whole(path) as temporary:
            temporary.write_bytes(convert(generator, "float16", name))
        print(f"{path.name}: {path.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
