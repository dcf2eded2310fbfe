"""`srgan upscale`: enlarges image files."""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path

from srgan_tf.cli.common import add_model_options, add_output_options, import_tensorflow, output
from srgan_tf.errors import RequestError
from srgan_tf.files import IMAGE_SUFFIXES, Output


def add_parser(commands) -> None:
    parser = commands.add_parser(
        "upscale",
        help="enlarge image files",
        description="Enlarges PNG, JPEG, WebP, TIFF and BMP files.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="""\
examples:
  srgan upscale photo.jpg -o photo-x4.png
  srgan upscale ~/Pictures -o enlarged
  srgan upscale scans/*.tif more -o enlarged --self-ensemble
  srgan upscale photo.jpg -o enlarged --model runs/mine

Results have the format of their inputs, or --format. Orientation is applied; colours (ICC
profile, or what PNG and EXIF state otherwise, as an ICC profile), resolution (DPI), alpha, grey,
16 bits a channel, EXIF, XMP and IPTC are kept where the result's format has them; palettes
become RGB, CMYK and Lab become sRGB. HDR pictures (PQ, HLG) and damaged ones are refused;
metadata that is damaged is left out with a warning.

A result that exists already is left as it is and counts as failed, unless --overwrite is
given: the same command again does what an interrupted one has left.

exit codes: 0 all done; 1 some inputs failed, each named on stderr; 2 the request is wrong.""",
    )
    parser.add_argument(
        "inputs",
        nargs="+",
        type=Path,
        metavar="INPUT",
        help="a file, or a folder, which is searched recursively",
    )
    parser.add_argument(
        "-o",
        "--out",
        required=True,
        type=Path,
        metavar="OUT",
        help="a folder, which is made, and where folders keep their structure; for one input "
        "file also a file name with the suffix of the format wanted",
    )
    add_model_options(parser)
    add_output_options(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace results that exist")
    parser.set_defaults(command=_upscale)


def _upscale(arguments: argparse.Namespace) -> int:
    written = output(arguments)
    jobs = _plan(arguments.inputs, arguments.out, written)
    failed = 0
    if not arguments.overwrite:
        for _, target in jobs:
            if target.exists():
                print(f"{target}: exists already; --overwrite replaces it", file=sys.stderr)
                failed += 1
        jobs = [job for job in jobs if not job[1].exists()]
        if not jobs:
            return 1

    import_tensorflow()
    from PIL import Image
    from tqdm import tqdm

    from srgan_tf.inference import Upscaler

    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    upscaler = Upscaler(
        arguments.model,
        arguments.tile,
        arguments.self_ensemble,
        arguments.precision,
        progress=True,
    )
    try:
        # disable=None: only on a terminal.
        with tqdm(total=len(jobs), unit="file", disable=None) as progress:
            for _, _, error in upscaler.upscale_files(
                jobs, written.quality, written.strip_metadata
            ):
                if error is not None:
                    tqdm.write(str(error), file=sys.stderr)
                    failed += 1
                progress.update()
    except KeyboardInterrupt:
        print("Stopped; the same command again goes on with the rest", file=sys.stderr)
        return 130
    return 1 if failed else 0


def _plan(inputs: list[Path], out: Path, written: Output) -> list[tuple[Path, Path]]:
    """(source, target) files of an `upscale` command.

    Raises:
        RequestError: a missing input, nothing to do, or targets that clash.
    """
    for path in inputs:
        if not path.exists():
            raise RequestError(f"{path}: no such file or folder")
    if out.suffix.lower() in IMAGE_SUFFIXES and not out.is_dir():
        if len(inputs) > 1 or inputs[0].is_dir():
            raise RequestError(f"{out}: one file can't hold several results; give a folder")
        if written.name(out.name) != out.name:
            raise RequestError(f"{out}: not the name of a file of --format {written.format}")
        jobs = [(inputs[0], out)]
    elif out.exists() and not out.is_dir():
        raise RequestError(f"{out}: neither a folder nor of {', '.join(IMAGE_SUFFIXES)}")
    else:
        jobs = []
        for path in inputs:
            if not path.is_dir():
                jobs.append((path, out / written.name(path.name)))
                continue
            for file in sorted(path.rglob("*")):
                # A folder of results within a folder of photos isn't enlarged again.
                if file.suffix.lower() in IMAGE_SUFFIXES and out not in file.parents:
                    jobs.append((file, out / written.name(str(file.relative_to(path)))))
        if not jobs:
            raise RequestError(f"no {', '.join(IMAGE_SUFFIXES)} in {', '.join(map(str, inputs))}")
    sources = {source.resolve() for source, _ in jobs}
    seen: dict[Path, Path] = {}
    for source, target in jobs:
        if target.resolve() in sources:
            raise RequestError(f"{target}: an input, which the result would replace")
        other = seen.setdefault(target.resolve(), source)
        if other is not source:
            raise RequestError(f"{other} and {source} would both be written to {target}")
    return jobs
