"""The command lines, a module a command. Heavy imports wait until they are needed."""

from __future__ import annotations

import argparse
import sys

from srgan_tf.cli import demo, evaluate, export, mos, train, upscale, upscale_batch
from srgan_tf.cli.common import run

COMMANDS = (upscale, upscale_batch, train, export, evaluate, mos, demo)


def main(argv: list[str] | None = None) -> None:
    """Entry point of `srgan`, and through it of `train.py` and `export.py`."""
    parser = argparse.ArgumentParser(prog="srgan", description="Photo-realistic super-resolution.")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add_parser(commands)
    argv = sys.argv[1:] if argv is None else argv
    # argparse would take what follows -- for inputs; it is another program's.
    own = argv.index("--") if argv[:1] == ["upscale-batch"] and "--" in argv else len(argv)
    parser.set_defaults(runner_options=argv[own + 1 :])
    run(parser, argv[:own], lambda arguments: arguments.command(arguments))
