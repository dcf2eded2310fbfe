"""The command line: one module per command. Heavy imports are deferred."""

from __future__ import annotations

import argparse
import sys

from srgan_tf.cli import demo, evaluate, export, mos, train, upscale, upscale_batch
from srgan_tf.cli.common import run

COMMANDS = (upscale, upscale_batch, train, export, evaluate, mos, demo)


def main(argv: list[str] | None = None) -> None:
    """Run `srgan`; `train.py` and `export.py` call it too."""
    parser = argparse.ArgumentParser(prog="srgan", description="Photo-realistic super-resolution.")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add_parser(commands)
    argv = sys.argv[1:] if argv is None else argv
    # Options after -- belong to Beam; argparse would take them for inputs.
    own = argv.index("--") if argv[:1] == ["upscale-batch"] and "--" in argv else len(argv)
    parser.set_defaults(runner_options=argv[own + 1 :])
    run(parser, argv[:own], lambda arguments: arguments.command(arguments))
