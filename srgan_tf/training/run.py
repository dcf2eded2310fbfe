"""Assembles and carries out a training run under a tf.distribute strategy."""

from __future__ import annotations

import importlib.metadata
import platform
import sys
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from srgan_tf.config import PREVIOUS, Config, GanConfig, Phase, PretrainConfig, write_config
from srgan_tf.data.pipeline import training_dataset, validation_pairs
from srgan_tf.data.sources import open_source
from srgan_tf.data.store import PhotoStore, open_store, split_photos
from srgan_tf.errors import UserError
from srgan_tf.files import atomic_write
from srgan_tf.losses import ContentLosses
from srgan_tf.models import ARCHITECTURES, DISCRIMINATORS, Generator, LumaGenerator
from srgan_tf.models.layers import synchronize
from srgan_tf.training.checkpoints import Checkpoints
from srgan_tf.training.distribution import (
    broadcast,
    describe_devices,
    is_chief,
    open_strategy,
    same_on_all_workers,
)
from srgan_tf.training.history import HISTORY_FILE, ancestry, read_history, sha256, write_json
from srgan_tf.training.loop import train_steps
from srgan_tf.training.precision import resolve_precision
from srgan_tf.training.trainers import GanTrainer, LumaPretrainer, Pretrainer
from srgan_tf.training.validation import Validation
from srgan_tf.weights import (
    CARD_FILE,
    GENERATOR_FILE,
    find_generator,
    load_generator,
    with_precision,
)

CONFIG_FILE = "config.yaml"
CHECKPOINTS_FOLDER = "checkpoints"


@dataclass
class Run:
    """A training run that is ready to go on: what `prepare` made of a recipe and a folder."""

    config: Config
    phase: Phase
    folder: Path
    strategy: tf.distribute.Strategy
    store: PhotoStore
    photos: PhotoStore
    held_out: PhotoStore
    trainer: Pretrainer | GanTrainer
    checkpoints: Checkpoints
    history: dict[str, Any]

    @property
    def finished(self) -> bool:
        """Whether all steps are done."""
        return self.checkpoints.step >= self.trainer.config.steps


def train(config: Config, phases: list[Phase], out: Path, resume: bool = False) -> Path | None:
    """Carry out phases of a recipe one after the other, each in a run folder of its own.

    With `TF_CONFIG` set it is one of several workers: each has the photos and trains on its
    slice of the same batches, the chief alone reads and writes the run folders.

    Args:
        config: the recipe.
        phases: of it, in its order.
        out: the run folder of one phase; of several the folder that has theirs, by name.
        resume: go on from the newest readable checkpoint, if there is one.

    Returns:
        The run folder of the last phase, or None when a signal stopped the training before its end.

    Raises:
        UserError: something the user named is not there or does not fit.
        TrainingDivergedError: a loss was not finite.
    """
    folders = {phase.name: out / phase.name if len(phases) > 1 else out for phase in phases}
    starts = {phase.name: start_of(config, phase, folders) for phase in phases}
    if is_chief():
        for phase in phases:
            folder, start = folders[phase.name], starts[phase.name]
            begun = is_begun(folder)
            if begun and not resume:
                raise UserError(
                    f"{folder}: holds a run already; go on with --resume, or choose another --out"
                )
            if not begun and start is not None and start not in map(str, folders.values()):
                try:
                    find_generator(start)
                except UserError as error:
                    raise UserError(f"{phase.name}.start_from: {error}") from None
    # Before any other operation: several workers wait here for each other.
    strategy = open_strategy()
    print(f"Training on {describe_devices(strategy)}", file=sys.stderr)
    if config.meant_for_gpu and not tf.config.list_logical_devices("GPU"):
        warnings.warn(
            f"the recipe {config.name} is meant for a GPU (meant_for_gpu) and TensorFlow finds "
            "none; pip install 'srgan-tf[gpu]' brings CUDA",
            stacklevel=2,
        )
    for phase in phases:
        folder = folders[phase.name]
        if not train_phase(config, phase, folder, starts[phase.name], strategy):
            return None
    return folder


def start_of(config: Config, phase: Phase, folders: dict[str, Path]) -> str | None:
    """What a phase starts from: weights by name, file or run folder, or None for new ones.

    Args:
        config: the recipe.
        phase: of it.
        folders: run folders by phase; others are under `runs/NAME`.
    """
    start = phase.section.start_from
    if start != PREVIOUS:
        return start
    if phase.index == 0:
        return None if phase.stage == "pretrain" else "srresnet-mse"
    before = config.phases()[phase.index - 1].name
    return str(folders.get(before, default_folder(config, before)))


def default_folder(config: Config, phase: str | None = None) -> Path:
    """The run folder of a phase that nobody chose another for; of a recipe, the one with all."""
    return Path("runs") / config.name / (phase or "")


def is_begun(folder: Path) -> bool:
    """Whether a run folder has checkpoints to go on from."""
    checkpoints = folder / CHECKPOINTS_FOLDER
    return checkpoints.exists() and any(checkpoints.iterdir())


def train_phase(
    config: Config,
    phase: Phase,
    folder: Path,
    start: str | None,
    strategy: tf.distribute.Strategy,
) -> bool:
    """Carry out what is left of a phase and leave its results in its run folder.

    The folder gets `config.yaml`, `history.json` (where its first weights are from, the photos'
    fingerprint, and each session's device, steps and seconds), `checkpoints/`, `logs/`
    (TensorBoard), `validation.png` (LR-bicubic | SR | HR) and, at the end, `generator.keras` and
    `card.json`.

    Args:
        config: the recipe.
        phase: of it.
        folder: the run folder.
        start: the weights to begin with, for the chief.
        strategy: to train under.

    Returns:
        True when the last step was reached, False when a signal stopped the run before it.

    Raises:
        UserError: something the user named is not there or does not fit.
        TrainingDivergedError: a loss was not finite.
    """
    run = prepare(config, phase, folder, start, strategy)
    if not is_chief():
        carry_on(run, None)
        return run.finished
    if run.finished and (folder / CARD_FILE).exists():
        print(f"{folder}: all steps are done; nothing is left to do", file=sys.stderr)
        return True
    validation = Validation(
        run.trainer.average,
        validation_pairs(run.held_out, config.data, config.generator.scale, config.seed),
        tf.summary.create_file_writer(str(folder / "logs")),
        folder / "validation.png",
    )
    carry_on(run, validation)
    if run.finished:
        validation.measure(run.checkpoints.step)
        save_generator(run.trainer.average, folder / GENERATOR_FILE)
        write_json(card(run, validation.scores), folder / CARD_FILE)
    validation.writer.close()
    return run.finished


def prepare(
    config: Config,
    phase: Phase,
    folder: Path,
    start: str | None,
    strategy: tf.distribute.Strategy,
) -> Run:
    """Open the photos, build the models and bring them to the state the run is in.

    Arguments and errors are those of `train_phase`.
    """
    chief = is_chief()
    begun = chief and is_begun(folder)
    weights = find_generator(start) if chief and not begun and start is not None else None
    store = open_store(open_source(config.data.source))
    photos, held_out = split_photos(store, config.data, config.seed)
    same_on_all_workers(strategy, store.fingerprint, "the photos (--data)")
    history: dict[str, Any] = {"phase": phase.name, "sessions": []}
    if begun:
        history = read_history(folder)
    if weights is not None:
        history["parents"] = ancestry(weights)
    known = history.setdefault("fingerprint", store.fingerprint)
    if known != store.fingerprint:
        raise UserError(
            f"{config.data.source}: not the photos that the run in {folder} was begun with; resume "
            "it with those, or start a new run with another --out"
        )

    keras.utils.set_random_seed(config.seed)
    if config.deterministic:
        tf.config.experimental.enable_op_determinism()
    config = resolve_precision(config, folder / CONFIG_FILE if begun else None)
    if config.data.batch_size % strategy.num_replicas_in_sync:
        raise UserError(
            f"data.batch_size ({config.data.batch_size}) must be a multiple of the "
            f"{strategy.num_replicas_in_sync} devices"
        )
    with strategy.scope():
        trainer = build_trainer(config, phase.section, weights)
        checkpoints = Checkpoints(folder / CHECKPOINTS_FOLDER, trainer, config.checkpoints_kept)
    if begun and checkpoints.restore():
        print(f"Resumed from step {checkpoints.step}", file=sys.stderr)
    elif chief:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(history, folder / HISTORY_FILE)
        checkpoints.save()
    broadcast(strategy, checkpoints.variables)
    if chief:
        write_config(config, folder / CONFIG_FILE)
    return Run(
        config, phase, folder, strategy, store, photos, held_out, trainer, checkpoints, history
    )


def carry_on(run: Run, validation: Validation | None) -> None:
    """Train until the run's steps are done or a signal comes.

    Args:
        run: as prepared.
        validation: the chief's; None on other workers.
    """
    config, first = run.config, run.checkpoints.step
    if run.finished:
        return
    sessions, started = list(run.history["sessions"]), time.monotonic()

    def save() -> None:
        if validation is None:
            return
        run.checkpoints.save()
        session = {
            "device": describe_devices(run.strategy),
            "first_step": first,
            "last_step": run.checkpoints.step,
            "seconds": round(time.monotonic() - started),
        }
        run.history["sessions"] = [*sessions, session]
        write_json(run.history, run.folder / HISTORY_FILE)

    dataset = run.strategy.distribute_datasets_from_function(
        lambda context: training_dataset(
            run.photos,
            config.data,
            config.generator.scale,
            config.seed + run.phase.index,
            range(first, run.trainer.config.steps),
            context,
        )
    )
    title = f"{config.name} {run.phase.name}"
    batches = iter(dataset)
    train_steps(
        run.trainer, batches, run.strategy, config, run.checkpoints, save, validation, title
    )


def card(run: Run, scores: dict[str, float]) -> dict:
    """Tell what a finished run's generator is, and how it came to be.

    Args:
        run: whose generator is written already.
        scores: its validation's.
    """
    return {
        "name": run.config.name,
        "phase": run.phase.name,
        "stage": run.phase.stage,
        "sha256": sha256(run.folder / GENERATOR_FILE),
        "scale": run.config.generator.scale,
        "parameters": sum(int(tf.size(v)) for v in run.trainer.generator.trainable_variables),
        "steps": run.checkpoints.step,
        "recipe": run.config.model_dump(),
        "data": {
            "photos": len(run.photos),
            "held_out": len(run.held_out),
            "fingerprint": run.store.fingerprint,
        },
        "parents": run.history.get("parents", []),
        "sessions": run.history["sessions"],
        "validation": scores,
        "versions": _versions(),
    }


def build_trainer(
    config: Config, section: PretrainConfig | GanConfig, start: Path | None
) -> Pretrainer | GanTrainer:
    """Builds the models and optimizers of a phase, under the present strategy's scope.

    Args:
        config: the recipe, its precision not `auto`.
        section: the phase's.
        start: a `.keras` file with the generator's first weights, or None.

    Raises:
        UserError: the weights are of another size than the recipe's generator.
    """
    architecture = ARCHITECTURES[config.generator.architecture]
    size = config.generator.model_dump(exclude={"architecture"})
    generator = architecture(**size, dtype=config.precision)
    average = architecture(**size)
    for model in (generator, average):
        model.build()
    synchronize(generator, section.bn_synchronized)
    if start is not None:
        weights = load_generator(start)
        given = {key: getattr(weights, key, None) for key in size}
        if type(weights) is not architecture or given != size:
            raise UserError(
                f"{start}: is {type(weights).__name__} of {given}, the recipe's generator is "
                f"{architecture.__name__} of {size}"
            )
        generator.set_weights(weights.get_weights())
    losses = ContentLosses(
        [name for name in section.losses if name != "adversarial"],
        config.generator.scale,
        config.vgg.weights,
    )
    if isinstance(section, PretrainConfig):
        of_luma = isinstance(generator, LumaGenerator)
        return (LumaPretrainer if of_luma else Pretrainer)(generator, average, losses, section)
    discriminator = DISCRIMINATORS[section.discriminator.architecture](
        section.discriminator.filters, dtype=config.precision
    )
    discriminator.build((None, config.data.hr_crop, config.data.hr_crop, 3))
    synchronize(discriminator, section.bn_synchronized)
    return GanTrainer(generator, average, discriminator, losses, section)


def save_generator(generator: Generator, path: Path) -> None:
    """Writes a generator as a float32 `.keras` file, whole or not at all."""
    with atomic_write(path) as temporary:
        with_precision(generator, "float32").save(temporary)


def _versions() -> dict[str, str]:
    packages = ("tensorflow", "keras", "numpy")
    return {
        "python": platform.python_version(),
        **{package: importlib.metadata.version(package) for package in packages},
    }
