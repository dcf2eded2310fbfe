"""`python train.py`: trains a generator."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from srgan_tf.cli.common import import_tensorflow, run

CONFIGS = Path(__file__).parents[2] / "configs"
DEFAULT_CONFIGS = {"pretrain": "srresnet_mse.yaml", "gan": "srgan_vgg54.yaml"}


def main(argv: list[str] | None = None) -> None:
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
    run(_train, parser.parse_args(argv))


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

    import_tensorflow()
    from srgan_tf.training import callbacks
    from srgan_tf.training.run import train

    try:
        finished = train(config, arguments.stage, folder, arguments.resume)
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
