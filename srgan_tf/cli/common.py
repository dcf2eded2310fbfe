"""What all commands share: exit codes, signals, and a quiet TensorFlow."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import warnings
from collections.abc import Callable

from srgan_tf.errors import RequestError
from srgan_tf.files import DEFAULT_QUALITY, FORMATS, Output
from srgan_tf.tiles import DEFAULT_TILE


def run(command: Callable[[argparse.Namespace], int], arguments: argparse.Namespace) -> None:
    """Runs a command and exits: 0 done, 1 some inputs failed, 2 the request is wrong."""
    # As an exception, so that nothing half-written stays behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    warnings.showwarning = lambda message, *_, **__: print(f"warning: {message}", file=sys.stderr)
    try:
        sys.exit(command(arguments))
    except RequestError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """--model and how it is applied, for the commands that enlarge files."""
    parser.add_argument(
        "--model",
        metavar="NAME|FILE|FOLDER|URL",
        help="a released name, a .keras file or a run folder; or, of export.py, a .tflite file, a "
        "SavedModel's folder or a TensorFlow Serving model as http://HOST:8501/NAME or "
        "grpc://HOST:8500/NAME, with ?timeout=60&retries=3 if you like; default: the best released",
    )
    parser.add_argument(
        "--tile",
        type=int,
        default=DEFAULT_TILE,
        metavar="N",
        help="side of the tiles that photos are cut into, in pixels of the input; smaller "
        "saves memory, larger is faster, the result is the same (default: %(default)s)",
    )
    parser.add_argument(
        "--self-ensemble",
        action="store_true",
        help="average the results of the 8 flips and quarter turns: slightly better, 8 times "
        "slower",
    )
    parser.add_argument(
        "--precision",
        default="float32",
        choices=("float32", "mixed_bfloat16"),
        help="mixed_bfloat16 is faster on CPUs with AVX-512 BF16 or AMX and on newer GPUs, much "
        "slower elsewhere (default: float32)",
    )


def add_output_options(parser: argparse.ArgumentParser) -> None:
    """--format and what else is of how results are written; `output` makes an `Output` of them."""
    parser.add_argument(
        "--format",
        choices=tuple(FORMATS),
        help="write all results in this format (default: each in its input's)",
    )
    parser.add_argument(
        "--quality",
        type=_quality,
        default=DEFAULT_QUALITY,
        metavar="N",
        help="of JPEG and WebP results, 1 to 100 (default: %(default)s)",
    )
    parser.add_argument(
        "--strip-metadata",
        action="store_true",
        help="leave EXIF, XMP and IPTC (camera, date, place, author) out of the results",
    )


def output(arguments: argparse.Namespace) -> Output:
    return Output(arguments.format, arguments.quality, arguments.strip_metadata)


def _quality(text: str) -> int:
    if not (text.isdecimal() and 1 <= int(text) <= 100):
        raise argparse.ArgumentTypeError(f"a quality is 1 to 100, not {text}")
    return int(text)


def import_tensorflow() -> None:
    """Imports TensorFlow without the notices that its native code writes to stderr."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as notices:
        os.dup2(notices.fileno(), 2)
        try:
            import tensorflow as tf

            tf.config.list_physical_devices()
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
