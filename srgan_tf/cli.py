"""The command lines: `python train.py` and `srgan`. Heavy imports wait until they are needed."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

from srgan_tf.errors import RequestError

CONFIGS = Path(__file__).parents[1] / "configs"
DEFAULT_CONFIGS = {"pretrain": "srresnet_mse.yaml", "gan": "srgan_vgg54.yaml"}


def _run(command: Callable[[argparse.Namespace], int], arguments: argparse.Namespace) -> None:
    """Runs a command and exits: 0 done, 1 some inputs failed, 2 the request is wrong."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    warnings.showwarning = lambda message, *_, **__: print(f"warning: {message}", file=sys.stderr)
    try:
        sys.exit(command(arguments))
    except RequestError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


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
        help="the recipe; default: the run folder's own with --resume, else "
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

    from srgan_tf.training import callbacks, run

    try:
        finished = run.train(config, arguments.stage, folder, arguments.resume)
    except callbacks.TrainingDiverged as error:
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
