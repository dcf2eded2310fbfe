"""`srgan upscale`: enlarges image files."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from srgan_tf.cli.common import (
    STOPPED,
    add_model_options,
    add_output_options,
    add_size_options,
    output,
    prepare_tensorflow,
    result_size,
    stop_if_interrupted,
    to_path,
)
from srgan_tf.errors import UserError
from srgan_tf.files import (
    IMAGE_SUFFIXES,
    READ_SUFFIXES,
    Output,
    find_images,
    first_line,
    is_file,
    is_folder,
)
from srgan_tf.native_output import suppress_native_output

if TYPE_CHECKING:
    from srgan_tf.inference.size import Size
    from srgan_tf.inference.upscaler import Upscaler

_PIPE = Path("-")


def add_parser(commands) -> None:
    parser = commands.add_parser(
        "upscale",
        help="enlarge image files",
        description="Enlarge PNG, JPEG, WebP, TIFF, BMP, AVIF and HEIC files.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="""\
examples:
  srgan upscale photo.jpg -o photo-x4.png
  srgan upscale ~/Pictures -o enlarged
  srgan upscale scans/*.tif more -o enlarged --self-ensemble
  srgan upscale photo.jpg -o enlarged --model runs/mine
  srgan upscale photos -o enlarged --max-side 4000 --format jpg --suffix=-large
  curl -s https://example.org/a.jpg | srgan upscale - -o - --scale 2 > a-x2.png

Results have the format of their inputs (PNG for AVIF and HEIC), or --format. Orientation is
applied; the ICC profile (or the colour space that a PNG or EXIF states, as an ICC profile),
resolution (DPI), alpha, grey, 16 bits per channel, EXIF, XMP and IPTC are kept if the result's
format supports them; palettes become RGB, CMYK and Lab become sRGB. HDR (PQ, HLG) and damaged
images are refused; damaged metadata is dropped with a warning.

Existing results are skipped unless --overwrite is given, so an interrupted command can be run
again to continue. Links in folders are followed.

exit codes: 0 all done; 1 some inputs failed, each named on stderr; 2 the request is wrong.""",
    )
    parser.add_argument(
        "inputs",
        nargs="+",
        type=to_path,
        metavar="INPUT",
        help="a file, a folder (searched recursively), or - for stdin",
    )
    parser.add_argument(
        "-o",
        "--out",
        required=True,
        type=to_path,
        metavar="OUT",
        help="a folder, created if needed, which keeps the structure of input folders; for one "
        "input file also a file name, whose suffix sets the format; - is stdout, in PNG unless "
        "--format or the input's name says otherwise",
    )
    add_model_options(parser)
    add_output_options(parser)
    add_size_options(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace existing results")
    parser.set_defaults(command=_upscale)


def _upscale(arguments: argparse.Namespace) -> int:
    options, size = output(arguments), result_size(arguments)
    with contextlib.ExitStack() as stack:
        failures: list[str] = []
        hidden = ""  # in messages
        if _PIPE in (arguments.out, *arguments.inputs):
            scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            hidden = f"{scratch}{os.sep}"
            jobs = [_plan_piped(arguments.inputs, arguments.out, options, scratch)]
        else:
            jobs, failures = _plan(arguments.inputs, arguments.out, options, arguments.overwrite)
        try:
            # Even if there is nothing to do, as the request may be wrong.
            upscaler = _open_upscaler(arguments, size)
            for failure in failures:
                print(failure, file=sys.stderr)
            failed = len(failures)
            if not arguments.overwrite:
                todo = [(source, target) for source, target in jobs if not is_file(target)]
                if skipped := len(jobs) - len(todo):
                    print(
                        f"existing results skipped: {skipped} (--overwrite replaces them)",
                        file=sys.stderr,
                    )
                jobs = todo
            if jobs:
                failed += _enlarge(upscaler, jobs, options, hidden)
        except KeyboardInterrupt:
            print("Stopped; run the same command again to continue", file=sys.stderr)
            return STOPPED
        if arguments.out == _PIPE and not failed:
            sys.stdout.buffer.write(jobs[0][1].read_bytes())
            sys.stdout.buffer.flush()
    return 1 if failed else 0


def _open_upscaler(arguments: argparse.Namespace, size: Size) -> Upscaler:
    """Open the model. Raises UserError as `Upscaler` does."""
    prepare_tensorflow()
    from srgan_tf.inference.upscaler import Upscaler

    with suppress_native_output():
        upscaler = Upscaler(
            arguments.model,
            arguments.tile,
            arguments.self_ensemble,
            arguments.precision,
            progress=True,
            engine=arguments.engine,
            size=size,
        )
    stop_if_interrupted()
    return upscaler


def _enlarge(
    upscaler: Upscaler, jobs: list[tuple[Path, Path]], options: Output, hidden: str
) -> int:
    """Enlarge (source, target) files, print those that fail, and return their number.

    Messages are printed without the text `hidden`.
    """
    from PIL import Image
    from tqdm import tqdm

    def show(message: str) -> None:
        tqdm.write(message.replace(hidden, ""), file=sys.stderr)

    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    warnings.showwarning = lambda message, *_, **__: show(f"warning: {message}")
    failed = 0
    # disable=None: only on a terminal.
    with tqdm(total=len(jobs), unit="file", disable=None) as progress:
        for _, _, error in upscaler.upscale_files(jobs, options.quality, options.strip_metadata):
            if error is not None:
                show(str(error))
                failed += 1
            progress.update()
    return failed


def _plan_piped(inputs: list[Path], out: Path, options: Output, scratch: Path) -> tuple[Path, Path]:
    """Return (source, target), with files in `scratch` for - as stdin or stdout."""
    if len(inputs) > 1:
        raise UserError("- is for one photo, on stdin or stdout: give one input")
    (source,) = inputs
    if out != _PIPE:
        _check_name(out, options)
    if source == _PIPE:
        if out != _PIPE and out.suffix.lower() not in IMAGE_SUFFIXES:
            raise UserError(f"{out}: a photo on stdin has no name: give a file name as OUT")
        source = scratch / "stdin"
        try:
            source.write_bytes(sys.stdin.buffer.read())
        except OSError as error:
            raise UserError(
                f"stdin: can't be copied to {scratch.parent}, which TMPDIR moves "
                f"({first_line(error)})"
            ) from None
    elif is_folder(source) is not False:
        raise UserError(f"{source}: not a file; only one file can be written to stdout")
    if out != _PIPE:
        return source, out
    suffix = source.suffix.lower() if source.suffix.lower() in IMAGE_SUFFIXES else ".png"
    return source, scratch / options.name(f"stdout{suffix}")


def _check_name(out: Path, options: Output) -> None:
    """Raise UserError if a result's file name contradicts the options."""
    if options.suffix:
        raise UserError(f"--suffix is for results in a folder, but {out} is a file: give a folder")
    if options.name(out.name) != out.name:
        raise UserError(f"{out}: the file's extension does not match --format {options.format}")


def _plan(
    inputs: list[Path], out: Path, options: Output, overwrite: bool
) -> tuple[list[tuple[Path, Path]], list[str]]:
    """Return the (source, target) files of a command, and messages on unreadable inputs.

    Raises:
        UserError: a missing input, nothing to do, or targets that clash.
    """
    folders = {}
    for source in inputs:
        folder = is_folder(source)
        if folder is None:
            raise UserError(f"{source}: no such file or folder")
        folders[source] = folder
    out_is_folder = is_folder(out)
    jobs, failures = [], []
    if out.suffix.lower() in IMAGE_SUFFIXES and not out_is_folder:
        if len(inputs) > 1 or folders[inputs[0]]:
            raise UserError(f"{out}: a file for several results; give a folder as OUT")
        _check_name(out, options)
        jobs = [(inputs[0], out)]
    elif out_is_folder is False or (
        out.suffix.lower() in (*READ_SUFFIXES, ".gif") and not out_is_folder
    ):
        raise UserError(
            f"{out}: neither a folder nor a file with one of {', '.join(IMAGE_SUFFIXES)}"
        )
    else:
        for source in inputs:
            if not folders[source]:
                jobs.append((source, out / options.name(source.name)))
                continue
            for file, problem in find_images(source, results=out):
                if problem is None:
                    jobs.append((file, out / options.name(str(file.relative_to(source)))))
                else:
                    failures.append(f"{file}: {problem}")
        if not (jobs or failures):
            raise UserError(f"no {', '.join(READ_SUFFIXES)} in {', '.join(map(str, inputs))}")
    if options.suffix:  # earlier results beside the inputs
        results = {os.path.realpath(target) for source, target in jobs}
        if overwrite:  # a file that is named may be no result
            results -= {os.path.realpath(source) for source in inputs}
        jobs = [
            (source, target) for source, target in jobs if os.path.realpath(source) not in results
        ]
    # The same source may be given twice, but two sources must not share a target.
    sources = {os.path.realpath(source) for source, _ in jobs}
    planned: dict[str, tuple[Path, Path]] = {}
    for source, target in jobs:
        place = os.path.realpath(target)
        if place in sources:
            another = "or another --suffix" if options.suffix else "or --suffix"
            raise UserError(
                f"{target}: the result would replace an input; choose another OUT, {another}"
            )
        other, _ = planned.setdefault(place, (source, target))
        if os.path.realpath(other) != os.path.realpath(source):
            raise UserError(
                f"{other} and {source} would both be written to {target}; enlarge them to "
                "different folders"
            )
    return list(planned.values()), failures
