"""Parts that all commands share: exit codes, signals, streams, options, TensorFlow's import."""

from __future__ import annotations

import argparse
import errno
import io
import os
import signal
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from srgan_tf.errors import ImageError, UserError
from srgan_tf.files import (
    DEFAULT_QUALITY,
    FORMATS,
    Output,
    expand_user,
    first_line,
    is_disk_full,
)
from srgan_tf.inference import ENGINES, PRECISIONS
from srgan_tf.inference.tiles import DEFAULT_TILE
from srgan_tf.native_output import suppress_native_output
from srgan_tf.weights import DEFAULT_MODEL

if TYPE_CHECKING:
    from srgan_tf.inference.size import Size

_INTERRUPTED = threading.Event()
_INACCESSIBLE = (errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ELOOP)
STOPPED, _UNREAD = 130, 141  # 128 plus the number of the signal, as in shells


def server_url(host: str, port: int) -> str:
    """Return the HTTP address of a server; an IPv6 address gets brackets."""
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"


def run(
    parser: argparse.ArgumentParser,
    argv: list[str] | None,
    command: Callable[[argparse.Namespace], int],
) -> NoReturn:
    """Parse the arguments, run a command and exit.

    Exit codes: 0 done, 1 some inputs failed, 2 the request is wrong, 130 stopped by Ctrl-C, 141
    broken pipe.
    """

    def interrupt(*_):
        _INTERRUPTED.set()
        raise KeyboardInterrupt

    _open_closed_streams()
    # SIGTERM raises SystemExit, so that temporary files are removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    before = signal.getsignal(signal.SIGINT)
    if before != signal.SIG_IGN:  # as with nohup
        signal.signal(signal.SIGINT, interrupt)
    warnings.showwarning = lambda message, *_, **__: print(f"warning: {message}", file=sys.stderr)
    try:
        try:
            sys.exit(command(parser.parse_args(argv)))
        finally:
            sys.stdout.flush()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except ImageError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except BrokenPipeError:
        _close_broken_streams()
        sys.exit(_UNREAD)
    except OSError as error:
        is_full = is_disk_full(error)
        if not (is_full or (error.filename is not None and error.errno in _INACCESSIBLE)):
            raise
        _close_broken_streams()
        place = "stdout or a temporary file" if error.filename is None else error.filename
        verb = "written" if is_full else "accessed"
        print(f"error: {place}: can't be {verb} ({first_line(error)})", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("Stopped", file=sys.stderr)
        sys.exit(STOPPED)
    except Exception:
        # Native code may turn a KeyboardInterrupt during an import into another error.
        if not _INTERRUPTED.is_set():
            raise
        print("Stopped", file=sys.stderr)
        sys.exit(STOPPED)
    finally:
        signal.signal(signal.SIGINT, before)
        _INTERRUPTED.clear()


def stop_if_interrupted() -> None:
    """Raise a KeyboardInterrupt that native code has swallowed in a callback."""
    if _INTERRUPTED.is_set():
        raise KeyboardInterrupt


def _open_closed_streams() -> None:
    """Open the null device as stdin, stdout or stderr where they are closed.

    Otherwise the next file that is opened would get their number, and native code would print to
    it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    for name, number, mode in (("stdin", 0, "r"), ("stdout", 1, "w"), ("stderr", 2, "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Like stderr: a file name that can't be encoded must not raise.
        sys.stdout.reconfigure(errors="backslashreplace")


def _close_broken_streams() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            # Python would try to write it again at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def to_path(text: str) -> Path:
    """Return `expand_user` of a path that is not empty, for argparse's `type`."""
    if not text:  # an empty variable; as a path it would be the current folder
        raise argparse.ArgumentTypeError("an empty name")
    return expand_user(text)


def path_or_name(text: str) -> str:
    """Expand ~ as `to_path` does, in an argument that may also be a name or URL."""
    return str(to_path(text)) if text[:1] in ("", "~") else text


def names(text: str) -> list[str]:
    """Split names that are separated by commas, for argparse's `type`."""
    parts = [name.strip() for name in text.split(",")]
    if not all(parts) or len(set(parts)) < len(parts):
        raise argparse.ArgumentTypeError(
            f"{text!r} must be names separated by commas, none empty or given twice"
        )
    return parts


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add --model and the options of its use, for the commands that enlarge files."""
    parser.add_argument(
        "--model",
        type=path_or_name,
        default=DEFAULT_MODEL,
        metavar="NAME|FILE|FOLDER|URL",
        help="a released name, a .keras file or a run folder; or an export: a .tflite file, a "
        "SavedModel folder, or a TensorFlow Serving model as http://HOST:8501/NAME or "
        "grpc://HOST:8500/NAME, optionally with ?timeout=60&retries=3 (default: %(default)s)",
    )
    parser.add_argument(
        "--tile",
        type=int,
        default=DEFAULT_TILE,
        metavar="N",
        help="largest side of the tiles that photos are cut into, in input pixels; smaller saves "
        "memory, the result is the same (default: %(default)s; LiteRT uses at most 384)",
    )
    parser.add_argument(
        "--self-ensemble",
        action="store_true",
        help="average the results of the 8 flips and quarter turns: slightly better, 8 times "
        "slower",
    )
    parser.add_argument(
        "--engine",
        default="auto",
        choices=ENGINES,
        help="runtime of a released generator; auto is tensorflow if it is installed and has a "
        "GPU, else litert (default: auto)",
    )
    parser.add_argument(
        "--precision",
        default="float32",
        choices=PRECISIONS,
        help="mixed_bfloat16 is faster on CPUs with AVX-512 BF16 or AMX and on newer GPUs, much "
        "slower elsewhere (default: float32)",
    )


def add_output_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that determine how results are written; `output` reads them."""
    parser.add_argument(
        "--format",
        choices=tuple(FORMATS),
        help="format of the results (default: that of each input)",
    )
    parser.add_argument(
        "--suffix",
        type=_suffix,
        default="",
        metavar="TEXT",
        help="append TEXT to the results' names: with --suffix=-x4, photo.jpg gives photo-x4.jpg",
    )
    parser.add_argument(
        "--quality",
        type=_quality,
        default=DEFAULT_QUALITY,
        metavar="N",
        help="quality of JPEG and WebP results, 1 to 100 (default: %(default)s)",
    )
    parser.add_argument(
        "--strip-metadata",
        action="store_true",
        help="drop EXIF, XMP and IPTC (camera, date, place, author) from the results",
    )


def output(arguments: argparse.Namespace) -> Output:
    """Return the `Output` that the options of `add_output_options` describe."""
    return Output(arguments.format, arguments.quality, arguments.strip_metadata, arguments.suffix)


def add_size_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that determine the results' size; `result_size` reads them."""
    group = parser.add_argument_group(
        "size of results (default: 4 times the photo's)",
        "The generator's results are downscaled, with antialiasing, to:",
    )
    group.add_argument("--scale", type=float, metavar="S", help="S times as wide and high: 2, 1.5")
    group.add_argument(
        "--width",
        type=int,
        metavar="W",
        help="W pixels wide; with --height, the largest size that fits within both",
    )
    group.add_argument("--height", type=int, metavar="H", help="H pixels high")
    group.add_argument(
        "--max-side",
        type=int,
        metavar="N",
        help="at most N pixels on the longer side",
    )


def result_size(arguments: argparse.Namespace) -> Size:
    """Return the `Size` that the options of `add_size_options` describe."""
    from srgan_tf.inference.size import Size

    return Size(arguments.scale, arguments.width, arguments.height, arguments.max_side)


def _suffix(text: str) -> str:
    if "/" in text or os.sep in text:
        raise argparse.ArgumentTypeError(f"must not contain a folder separator: {text}")
    return text


def _quality(text: str) -> int:
    if not (text.isdecimal() and 1 <= int(text) <= 100):
        raise argparse.ArgumentTypeError(f"must be from 1 to 100, not {text}")
    return int(text)


def prepare_tensorflow() -> None:
    """Set up the imports of TensorFlow and Keras: less output, the backend, a temporary folder."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # Leaves a GPU's memory to other programs, and to the workers of upscale-batch.
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    os.environ["KERAS_BACKEND"] = "tensorflow"
    try:
        tempfile.gettempdir()
    except FileNotFoundError:  # none is writable: TensorFlow only needs a name
        tempfile.tempdir = os.curdir


def import_tensorflow() -> None:
    """Import TensorFlow with its native output to stderr suppressed.

    Raises:
        UserError: TensorFlow is not installed.
    """
    from srgan_tf.inference.engine import require_tensorflow

    require_tensorflow("this command")
    prepare_tensorflow()
    with suppress_native_output():
        import tensorflow as tf

        tf.config.list_physical_devices()
    stop_if_interrupted()
