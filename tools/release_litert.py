"""Convert released generators to LiteRT models, which `srgan upscale` runs.

    python tools/release_litert.py [NAME...]

Each NAME.keras in srgan_tf/weights that can be exported is converted to NAME.tflite beside it, with
16-bit weights, float32 arithmetic and any input size. tools/release.py does it for a new release;
tests/test_weights.py compares the results with the Keras models.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from srgan_tf import weights
from srgan_tf.cli.common import run
from srgan_tf.export.graph import require_exportable
from srgan_tf.export.tflite import convert
from srgan_tf.files import atomic_write
from srgan_tf.training.history import read_card


def write_litert(source: Path, path: Path) -> None:
    """Convert a generator to a release, whose name is the `.tflite` file's.

    Args:
        source: its `.keras` file.
        path: the `.tflite` file.

    Raises:
        UserError: it can't be exported.
    """
    generator = weights.load_generator(source)
    require_exportable(generator)
    with atomic_write(path) as temporary:
        temporary.write_bytes(convert(generator, "float16", path.stem))
    print(f"{path.name}: {path.stat().st_size / 1e6:.2f} MB")


def is_exportable(card: dict[str, Any]) -> bool:
    """Return whether the generator of a card can be exported, see `require_exportable`."""
    return card["recipe"]["generator"]["architecture"] in ("srresnet", "ecbsr")


def convert_all(arguments: argparse.Namespace) -> int:
    cards = {name: read_card(weights.released_generator(name)) for name in weights.released()}
    for name in arguments.names or [name for name in cards if is_exportable(cards[name])]:
        source = weights.released_generator(name)
        write_litert(source, source.with_suffix(".tflite"))
    return 0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="default: all released ones")
    run(parser, None, convert_all)


if __name__ == "__main__":
    main()
