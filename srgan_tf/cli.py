"""The command lines: `python train.py` and `srgan`. Heavy imports wait until they are needed."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

from srgan_tf.errors import RequestError

CONFIGS = Path(__file__).parents[1] / "configs"
DEFAULT_CONFIGS = {"pretrain": "srresnet_mse.yaml", "gan": "srgan_vgg54.yaml"}


def _run(command: Callable[[argparse.Namespace], int], arguments: argparse.Namespace) -> None:
    """Runs a command and exits: 0 done, 1 some inputs failed, 2 the request is wrong."""
    # As an exception, so that nothing half-written stays behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    warnings.showwarning = lambda message, *_, **__: print(f"warning: {message}", file=sys.stderr)
    try:
        sys.exit(command(arguments))
    except RequestError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def _import_tensorflow() -> None:
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


def train(argv: list[str] | None = None) -> None:
    """Entry point of `train.py`."""
    parser = argparse.ArgumentParser(
        prog="train.py",
        description="Trains SRResNet (--stage pretrain) or SRGAN (--stage gan).",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="""\
examples:
  python train.py --stage pretrain --config configs/quickstart.yaml
  python train.py --stage gan --config configs/quickstart.yaml
  python train.py --stage pretrain --data ~/Pictures --out runs/mine
  python train.py --stage pretrain --out runs/mine --resume
  python train.py --stage gan --set vgg.weights=vgg19_notop.h5 --set gan.learning_rate=5e-5

Ctrl-C stops after the present step and keeps a checkpoint; --resume goes on from there.""",
    )
    parser.add_argument("--stage", required=True, choices=tuple(DEFAULT_CONFIGS))
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="the recipe; default: the run folder's own with --resume and --out, else "
        "configs/srresnet_mse.yaml or configs/srgan_vgg54.yaml",
    )
    parser.add_argument(
        "--data", metavar="DIR|tfds:NAME|samples", help="HR photos, in place of data.source"
    )
    parser.add_argument("--steps", type=int, metavar="N", help="in place of the stage's steps")
    parser.add_argument(
        "--out", type=Path, metavar="RUN_DIR", help="run folder; default runs/NAME/STAGE"
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on from the run folder's newest checkpoint"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override a key of the recipe, such as pretrain.ema=0.999; repeatable",
    )
    _run(_train, parser.parse_args(argv))


def _train(arguments: argparse.Namespace) -> int:
    from srgan_tf.config import read_config

    overrides = list(arguments.set)
    if arguments.data is not None:
        overrides.append(f"data.source={arguments.data}")
    if arguments.steps is not None:
        overrides.append(f"{arguments.stage}.steps={arguments.steps}")
    path = arguments.config
    if path is None:
        path = CONFIGS / DEFAULT_CONFIGS[arguments.stage]
        if arguments.resume and arguments.out and (arguments.out / "config.yaml").exists():
            path = arguments.out / "config.yaml"
    config = read_config(path, overrides)
    folder = arguments.out or Path("runs") / config.name / arguments.stage

    _import_tensorflow()
    from srgan_tf.training import callbacks, run

    try:
        finished = run.train(config, arguments.stage, folder, arguments.resume)
    except callbacks.TrainingDivergedError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if not finished:
        print(f"Stopped; go on with --resume --out {folder}", file=sys.stderr)
        return 130
    print(
        f"Done: {folder}/generator.keras, card.json, validation.png\n"
        f"Enlarge a photo with it: srgan upscale PHOTO -o OUT --model {folder}"
    )
    return 0


def main(argv: list[str] | None = None) -> None:
    """Entry point of `srgan`."""
    parser = argparse.ArgumentParser(prog="srgan", description="Photo-realistic super-resolution.")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_upscale(commands)
    arguments = parser.parse_args(argv)
    _run(arguments.command, arguments)


def _add_upscale(commands) -> None:
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

Results have the format of their inputs; JPEG and WebP are written at quality 95. EXIF
orientation is applied; ICC profile, resolution (DPI), alpha, grey and 16 bits a channel are
kept; palettes become RGB, CMYK becomes sRGB.

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
    parser.add_argument(
        "--model",
        metavar="NAME|FILE",
        help="a released name, a .keras file or a run folder; default: the best released",
    )
    parser.add_argument(
        "--tile",
        type=int,
        metavar="N",
        help="side of the tiles that photos are cut into, in pixels of the input; smaller "
        "saves memory, larger is faster, the result is the same (default: 512)",
    )
    parser.add_argument(
        "--self-ensemble",
        action="store_true",
        help="average the results of the 8 flips and quarter turns: slightly better, 8 times "
        "slower",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace results that exist")
    parser.set_defaults(command=_upscale)


def _upscale(arguments: argparse.Namespace) -> int:
    _import_tensorflow()  # before _plan, whose imports reach TensorFlow too
    jobs = _plan(arguments.inputs, arguments.out)
    failed = 0
    if not arguments.overwrite:
        for _, target in jobs:
            if target.exists():
                print(f"{target}: exists already; --overwrite replaces it", file=sys.stderr)
                failed += 1
        jobs = [job for job in jobs if not job[1].exists()]
        if not jobs:
            return 1

    from PIL import Image
    from tqdm import tqdm

    from srgan_tf.inference import DEFAULT_TILE, Upscaler

    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    tile = DEFAULT_TILE if arguments.tile is None else arguments.tile
    upscaler = Upscaler(arguments.model, tile, arguments.self_ensemble, progress=True)
    try:
        # disable=None: only on a terminal.
        with tqdm(total=len(jobs), unit="file", disable=None) as progress:
            for _, _, error in upscaler.upscale_files(jobs):
                if error is not None:
                    tqdm.write(str(error), file=sys.stderr)
                    failed += 1
                progress.update()
    except KeyboardInterrupt:
        print("Stopped; the same command again goes on with the rest", file=sys.stderr)
        return 130
    return 1 if failed else 0


def _plan(inputs: list[Path], out: Path) -> list[tuple[Path, Path]]:
    """(source, target) files of an `upscale` command.

    Raises:
        RequestError: a missing input, nothing to do, or targets that clash.
    """
    from srgan_tf.data.sources import EXTENSIONS

    for path in inputs:
        if not path.exists():
            raise RequestError(f"{path}: no such file or folder")
    if out.suffix.lower() in EXTENSIONS and not out.is_dir():
        if len(inputs) > 1 or inputs[0].is_dir():
            raise RequestError(f"{out}: one file can't hold several results; give a folder")
        jobs = [(inputs[0], out)]
    elif out.exists() and not out.is_dir():
        raise RequestError(f"{out}: neither a folder nor of {', '.join(EXTENSIONS)}")
    else:
        jobs = []
        for path in inputs:
            if not path.is_dir():
                jobs.append((path, out / path.name))
                continue
            for file in sorted(path.rglob("*")):
                # A folder of results within a folder of photos isn't enlarged again.
                if file.suffix.lower() in EXTENSIONS and out not in file.parents:
                    jobs.append((file, out / file.relative_to(path)))
        if not jobs:
            raise RequestError(f"no {', '.join(EXTENSIONS)} in {', '.join(map(str, inputs))}")
    sources = {source.resolve() for source, _ in jobs}
    seen: dict[Path, Path] = {}
    for source, target in jobs:
        if target.resolve() in sources:
            raise RequestError(f"{target}: an input, which the result would replace")
        other = seen.setdefault(target.resolve(), source)
        if other is not source:
            raise RequestError(f"{other} and {source} would both be written to {target}")
    return jobs
