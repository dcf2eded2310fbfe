"""Interpolate between the weights of a finished run and those it started from.

    python tools/interpolate.py RUN_DIR OTHER [--share 0.5] --out DIR

A phase with a larger adversarial weight adds fine detail and artefacts; interpolated networks have
less of both (Wang et al. 2018, ESRGAN, section 3.4). DIR receives what tools/release.py needs: the
generator, its card and the run's logs.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import Any

from release import card_of

from srgan_tf.cli.common import run
from srgan_tf.errors import UserError
from srgan_tf.files import atomic_folder, sha256, write_json
from srgan_tf.models import Generator
from srgan_tf.training.run import save_generator
from srgan_tf.weights import (
    CARD_FILE,
    GENERATOR_FILE,
    find_generator,
    load_generator,
    with_precision,
)


def interpolate(one: Generator, other: Generator, share: float) -> Generator:
    """Return a generator with the weights `share`·one + (1 - `share`)·other.

    Raises:
        UserError: the architectures differ, or `share` is not from 0 to 1.
    """
    if not 0 <= share <= 1:
        raise UserError(f"--share {share}: must be from 0 to 1")
    if _architecture(one) != _architecture(other):
        raise UserError("only generators of the same architecture can be interpolated")
    between = with_precision(one, "float32")
    between.set_weights(
        [
            share * a + (1 - share) * b
            for a, b in zip(one.get_weights(), other.get_weights(), strict=True)
        ]
    )
    return between


def _architecture(generator: Generator) -> tuple[type[Generator], dict[str, Any]]:
    config = generator.get_config()
    size = {key: config[key] for key in config.keys() - {"name", "dtype", "trainable"}}
    return type(generator), size


def write(arguments: argparse.Namespace) -> int:
    if arguments.out.exists():
        raise UserError(f"{arguments.out}: exists; name a new folder")
    other = find_generator(arguments.other)
    generator = interpolate(load_generator(arguments.run), load_generator(other), arguments.share)
    card = card_of(arguments.run)
    logs = arguments.run / "logs"
    if not logs.is_dir():
        raise UserError(f"{logs}: no such folder; a release's curve is read from the run's logs")

    for key in ("validation", "sha256"):  # those of RUN_DIR's weights
        card.pop(key, None)
    card["interpolated"] = {
        "share": arguments.share,
        "other_sha256": sha256(other),
    }
    with atomic_folder(arguments.out) as folder:
        save_generator(generator, folder / GENERATOR_FILE)
        write_json(folder / CARD_FILE, card)
        shutil.copytree(logs, folder / "logs")
    print(arguments.out)
    return 0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, metavar="RUN_DIR")
    parser.add_argument("other", help="a run folder, a .keras file or a released name")
    parser.add_argument("--share", type=float, default=0.5, help="RUN_DIR's, 0 to 1 (default: 0.5)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    run(parser, None, write)


if __name__ == "__main__":
    main()
