"""The command lines, a module a command. Heavy imports wait until they are needed."""

from __future__ import annotations

import argparse

from srgan_tf.cli import evaluate, mos, upscale
from srgan_tf.cli.common import run

COMMANDS = (upscale, evaluate, mos)


def main(argv: list[str] | None = None) -> None:
    """Entry point of `srgan`."""
    parser = argparse.ArgumentParser(prog="srgan", description="Photo-realistic super-resolution.")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add_parser(commands)
    arguments = parser.parse_args(argv)
    run(arguments.command, arguments)
