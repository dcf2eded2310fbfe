"""`srgan train`: trains a generator."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from srgan_tf.cli.common import STOPPED, import_tensorflow, path_or_name, to_path
from srgan_tf.errors import UserError
from srgan_tf.files import escape_non_utf8

SECONDS_TO_NOTICE = 60
"""Time for the other workers of `--workers` to notice that one has failed."""
SECONDS_TO_STOP = 5
"""The same if it may have failed before they joined, as they then wait for it."""
_NOT_STARTED = (2, 128 + signal.SIGTERM)
DEFAULT_RECIPES = {"pretrain": "srresnet_mse", "gan": "srgan_vgg54"}


def add_parser(commands) -> None:
    parser = commands.add_parser(
        "train",
        help="train a generator, on your photos or on DIV2K",
        description="Train a generator: all phases of a recipe in order, or those of one --stage.\n"
        "`pretrain` trains the generator alone, `gan` together with a discriminator.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="""\
examples:
  srgan train --config quickstart
  srgan train --config quickstart --resume
  srgan train --stage pretrain --data ~/Pictures --out runs/mine
  srgan train --stage pretrain --out runs/mine --resume
  srgan train --stage gan --set vgg.weights=vgg19_notop.h5 --set gan.learning_rate=5e-5
  srgan train --stage pretrain --config quickstart --workers 2
  srgan train --stage gan --data ~/Pictures --export-step step/ --set precision=mixed_bfloat16

Ctrl-C stops after the current step and saves a checkpoint; --resume continues from there.
With TF_CONFIG set, this process is one of several workers: see docs/multi_worker.md.""",
    )
    parser.add_argument(
        "--stage",
        metavar="pretrain|gan|PHASE",
        help="train only this stage, or only one phase, such as gan-2 (default: all phases)",
    )
    parser.add_argument(
        "--config",
        type=path_or_name,
        metavar="FILE|NAME",
        help="recipe: a .yaml file, or a name in srgan_tf/recipes (default: with --resume and "
        "--out, the run folder's; otherwise the stage's, "
        f"{' or '.join(DEFAULT_RECIPES.values())})",
    )
    parser.add_argument(
        "--data",
        type=path_or_name,
        metavar="DIR|tfds:NAME|samples",
        help="HR photos: a folder, a tensorflow-datasets name, or scikit-image's photos; overrides "
        "data.source",
    )
    parser.add_argument("--steps", type=int, metavar="N", help="number of updates in each phase")
    parser.add_argument(
        "--out",
        type=to_path,
        metavar="RUN_DIR",
        help="run folder; with several phases, the folder that contains theirs (default: "
        "runs/NAME/PHASE)",
    )
    parser.add_argument(
        "--resume", action="store_true", help="continue from the run folder's newest checkpoint"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override a key of the recipe, such as pretrain.ema=0.999; repeatable",
    )
    parser.add_argument(
        "--export-step",
        type=to_path,
        metavar="DIR",
        help="do not train, but write the training step for srgan_tf.training.jax_runner, which "
        "trains with JAX and without TensorFlow",
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=1,
        metavar="N",
        help="train with N processes on this machine, to try multi-worker training",
    )
    parser.set_defaults(command=_start)


def _start(arguments: argparse.Namespace) -> int:
    start_workers = arguments.workers != 1 and "TF_CONFIG" not in os.environ
    return _run_workers(arguments) if start_workers else _train(arguments)


def _train(arguments: argparse.Namespace) -> int:
    from srgan_tf.inference.engine import require_tensorflow

    require_tensorflow("training")
    from srgan_tf.config import read_config

    for name in (arguments.data, arguments.out, *arguments.set):
        if name is not None and escape_non_utf8(str(name)) != str(name):
            raise UserError(
                f"{name}: the name is not UTF-8, which recipes and TensorFlow need; rename it, or "
                "give a link with another name"
            )
    overrides = list(arguments.set)
    if arguments.data is not None:
        overrides.append(f"data.source={arguments.data}")
    recipe, stage = _choose_recipe(arguments)
    # --steps applies to the chosen phases, whose names the first reading gives.
    phases = read_config(recipe, overrides).phases(stage)
    if arguments.steps is not None:
        overrides += [f"{phase.name}.steps={arguments.steps}" for phase in phases]
    config = read_config(recipe, overrides)
    phases = config.phases(stage)

    # TensorFlow enables oneDNN only with AVX-512; with AVX2 it doubles the speed of training.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    import_tensorflow()
    from srgan_tf.training import distribution
    from srgan_tf.training.loop import TrainingDivergedError
    from srgan_tf.training.portable import write_portable_step
    from srgan_tf.training.run import default_folder, has_checkpoints, train

    out = arguments.out or default_folder(config, phases[0].name if len(phases) == 1 else None)
    if arguments.resume and len(phases) == 1 and has_checkpoints(out / phases[0].name):
        out /= phases[0].name  # --out is the folder of all phases
    if arguments.export_step is not None:
        if len(phases) > 1:
            names = ", ".join(phase.name for phase in phases)
            raise UserError(f"--export-step exports one phase: choose it with --stage ({names})")
        write_portable_step(config, phases[0], arguments.export_step)
        print(
            f"Done: {arguments.export_step}. To train with it on a machine with JAX:\n"
            f"python -m srgan_tf.training.jax_runner {arguments.export_step} --data PHOTOS "
            f"--out {out}"
        )
        return 0
    try:
        with distribution.translate_errors():
            folder = train(config, phases, out, arguments.resume)
    except (
        TrainingDivergedError,
        distribution.OutOfMemoryError,
        distribution.WorkerLostError,
    ) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if folder is None:
        # Without it, a folder of several phases is all of its recipe's.
        chosen = f" --stage {stage}" if stage is not None and len(phases) > 1 else ""
        print(
            f"Stopped; continue with --resume{chosen} --out {shlex.quote(str(out))}",
            file=sys.stderr,
        )
        return STOPPED
    if not distribution.is_chief():
        return 0
    print(
        f"Done: {folder}/generator.keras, card.json, validation.png\n"
        f"To enlarge a photo: srgan upscale PHOTO -o OUT --model {shlex.quote(str(folder))}"
    )
    return 0


def _choose_recipe(arguments: argparse.Namespace) -> tuple[Path, str | None]:
    """Choose the recipe and the stage: those given, a resumed run's, or the stage's default recipe.

    Returns:
        The recipe's file, and a stage or phase; None for all phases.
    """
    from srgan_tf.recipes import find_recipe
    from srgan_tf.training.history import read_history

    stage, recipe = arguments.stage, arguments.config
    if arguments.resume and arguments.out:
        stage = stage or read_history(arguments.out).get("phase")
        if recipe is None:
            recipe = arguments.out / "config.yaml"
            if not recipe.exists():
                # Recipes of one name may share a folder; the newest is the one that was stopped.
                phases = arguments.out.glob("*/config.yaml")
                recipe = max(phases, key=lambda path: path.stat().st_mtime, default=None)
    if recipe is None and stage is not None:
        recipe = DEFAULT_RECIPES.get(stage.partition("-")[0])
    if recipe is None:
        if stage is not None:
            raise UserError(
                f"--stage {stage}: no such stage; use pretrain or gan, or give a recipe by --config"
            )
        raise UserError("no recipe; give --config FILE|NAME, --stage pretrain or --stage gan")
    return find_recipe(recipe), stage


def _run_workers(arguments: argparse.Namespace) -> int:
    """Run this command in a process per worker, and stop all of them if one fails."""
    if arguments.workers < 1:
        raise UserError(f"--workers must be at least 1, not {arguments.workers}")
    with ExitStack() as sockets:
        ports = [_free_port(sockets) for _ in range(arguments.workers)]
    cluster = {"worker": [f"localhost:{port}" for port in ports]}
    workers = []
    for index in range(arguments.workers):
        task = {"type": "worker", "index": index}
        environment = os.environ | {"TF_CONFIG": json.dumps({"cluster": cluster, "task": task})}
        command = [sys.executable, *sys.orig_argv[1:]]
        workers.append(subprocess.Popen(command, env=environment))

    def terminate(*_) -> None:
        for worker in workers:
            worker.terminate()

    # A terminal sends Ctrl-C to the workers itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, terminate)
    try:
        while any(worker.poll() is None for worker in workers):
            if any(worker.returncode for worker in workers):
                break
            time.sleep(0.2)
        # The other workers notice it and exit with a message, unless they still wait for this one.
        waits = any(worker.returncode in _NOT_STARTED for worker in workers)
        deadline = time.monotonic() + (SECONDS_TO_STOP if waits else SECONDS_TO_NOTICE)
        for worker in workers:
            worker.wait(max(0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        pass
    finally:
        for worker in workers:
            worker.kill()
    codes = [worker.wait() for worker in workers]
    return next((code if code > 0 else 128 - code for code in codes if code), 0)


def _free_port(sockets: ExitStack) -> int:
    """Return a free port, which is reserved until `sockets` is closed."""
    listener = sockets.enter_context(socket.socket())
    listener.bind(("localhost", 0))
    return listener.getsockname()[1]
