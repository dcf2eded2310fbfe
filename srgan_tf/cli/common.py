"""What all commands share: exit codes, signals, streams, paths, and a quiet TensorFlow."""

from __future__ import annotations

import argparse
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

from srgan_tf.errors import RequestError
from srgan_tf.files import DEFAULT_QUALITY, FORMATS, Output, native_messages_held_back
from srgan_tf.inference import ENGINES, PRECISIONS
from srgan_tf.inference.tiles import DEFAULT_TILE

if TYPE_CHECKING:
    from srgan_tf.inference.size import Size

_INTERRUPTED = threading.Event()
STOPPED, _UNREAD = 130, 141  # 128 and the number of the signal, as shells say it


def run(
    parser: argparse.ArgumentParser,
    argv: list[str] | None,
    command: Callable[[argparse.Namespace], int],
) -> NoReturn:
    """Parses the arguments, runs a command and exits.

    Exit codes: 0 done, 1 some inputs failed, 2 the request is wrong, 130 stopped by Ctrl-C, 141
    nobody reads the output any more.
    """

    def interrupt(*_):
        _INTERRUPTED.set()
        raise KeyboardInterrupt

    _open_closed_streams()
    # As an exception, so that nothing half-written stays behind.
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
    except RequestError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:
        _close_broken_streams()
        sys.exit(_UNREAD)
    except KeyboardInterrupt:
        print("Stopped", file=sys.stderr)
        sys.exit(STOPPED)
    except Exception:
        # Native code may turn the KeyboardInterrupt within an import into an error of its own.
        if not _INTERRUPTED.is_set():
            raise
        print("Stopped", file=sys.stderr)
        sys.exit(STOPPED)
    finally:
        signal.signal(signal.SIGINT, before)
        _INTERRUPTED.clear()


def stop_if_interrupted() -> None:
    """Raises the KeyboardInterrupt that was lost, as in a callback of native code it is."""
    if _INTERRUPTED.is_set():
        raise KeyboardInterrupt


def _open_closed_streams() -> None:
    """Gives a process without stdin, stdout or stderr empty ones.

    Else a file that it opens would have the number of one, and get what native code prints.
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
        # As stderr does: no name or sign may be the end of a command.
        sys.stdout.reconfigure(errors="backslashreplace")


def _close_broken_streams() -> None:
    """Lets go what nobody reads, which Python would try to write once more at its end."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def to_path(text: str) -> Path:
    """A path of the command line; a shell leaves the ~ of --out=~/results as it is."""
    try:
        return Path(text).expanduser()
    except RuntimeError:  # no such user: then it is a file's name
        return Path(text)


def path_or_name(text: str) -> str:
    """As `to_path`, where a name or URL may stand, too."""
    return str(to_path(text)) if text.startswith("~") else text


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """--model and how it is applied, for the commands that enlarge files."""
    parser.add_argument(
        "--model",
        type=path_or_name,
        metavar="NAME|FILE|FOLDER|URL",
        help="a released name, a .keras file or a run folder; or, of `srgan export`, a .tflite "
        "file, a SavedModel's folder or a TensorFlow Serving model as http://HOST:8501/NAME or "
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
        "--engine",
        default="auto",
        choices=ENGINES,
        help="what runs a released generator; auto is tensorflow where it is installed and there "
        "is a GPU for it, else litert (default: auto)",
    )
    parser.add_argument(
        "--precision",
        default="float32",
        choices=PRECISIONS,
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
        "--suffix",
        type=_suffix,
        default="",
        metavar="TEXT",
        help="put this behind the results' names: with --suffix=-x4, photo.jpg gives photo-x4.jpg",
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
    return Output(arguments.format, arguments.quality, arguments.strip_metadata, arguments.suffix)


def add_size_options(parser: argparse.ArgumentParser) -> None:
    """How large results are; `result_size` makes a `Size` of them."""
    group = parser.add_argument_group(
        "size of results (default: 4 times the photo's)",
        "Photos are enlarged by the generator, then downscaled, with antialiasing, to:",
    )
    group.add_argument("--scale", type=float, metavar="S", help="S times as wide and high: 2, 1.5")
    group.add_argument(
        "--width",
        type=int,
        metavar="W",
        help="W pixels wide; with --height too, the largest that fits within both",
    )
    group.add_argument("--height", type=int, metavar="H", help="H pixels high")
    group.add_argument(
        "--max-side",
        type=int,
        metavar="N",
        help="at most N pixels on the longer side",
    )


def result_size(arguments: argparse.Namespace) -> Size:
    from srgan_tf.inference.size import Size

    return Size(arguments.scale, arguments.width, arguments.height, arguments.max_side)


def _suffix(text: str) -> str:
    if "/" in text or os.sep in text:
        raise argparse.ArgumentTypeError(f"a suffix of names holds no folder: {text}")
    return text


def _quality(text: str) -> int:
    if not (text.isdecimal() and 1 <= int(text) <= 100):
        raise argparse.ArgumentTypeError(f"a quality is 1 to 100, not {text}")
    return int(text)


def prepare_tensorflow() -> None:
    """Settings without which TensorFlow, if it is imported, is noisy or can't be."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        tempfile.gettempdir()
    except FileNotFoundError:  # none that can be written: TensorFlow asks for its name alone
        tempfile.tempdir = os.curdir


def import_tensorflow() -> None:
    """Imports TensorFlow without the notices that its native code writes to stderr.

    Raises:
        RequestError: it is not installed.
    """
    from srgan_tf.inference.engine import require_tensorflow

    require_tensorflow("this command")
    prepare_tensorflow()
    with native_messages_held_back():
        import tensorflow as tf

        tf.config.list_physical_devices()
    stop_if_interrupted()
