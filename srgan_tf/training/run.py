"""Training runs: a recipe's phases, each from its run folder's state to a trained generator."""

from __future__ import annotations

import importlib.metadata
import platform
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from filelock import FileLock, Timeout

from srgan_tf.config import (
    PREVIOUS,
    Config,
    GanConfig,
    Phase,
    PretrainConfig,
    read_config,
    write_config,
)
from srgan_tf.data.pipeline import training_dataset, validation_pairs
from srgan_tf.data.sources import open_source
from srgan_tf.data.store import PhotoStore, open_store, split_photos
from srgan_tf.errors import UserError, install_command
from srgan_tf.files import atomic_write, make_writable_folder, sha256, write_json
from srgan_tf.losses import VGG_LOSSES, ContentLosses, check_vgg_weights
from srgan_tf.models import ARCHITECTURES, DISCRIMINATORS, Generator, LumaGenerator
from srgan_tf.models.layers import synchronize
from srgan_tf.training.checkpoints import Checkpoints, find_checkpoints
from srgan_tf.training.distribution import (
    broadcast,
    check_equal,
    create_strategy,
    describe_devices,
    from_chief,
    is_chief,
)
from srgan_tf.training.history import HISTORY_FILE, ancestry, read_card, read_history
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
LOCK_FILE = ".lock"


@dataclass
class Run:
    """A phase that is ready to train, see `open_run`.

    Attributes:
        config: the recipe, with the precision resolved.
        phase: of the recipe.
        folder: the run folder.
        strategy: to train under.
        store: all photos.
        photos: those to train on.
        held_out: those to validate on.
        trainer: with the weights to continue from.
        checkpoints: the trainer's.
        history: the content of `history.json`.
        former: the recipe that a resumed run had; None for a new run.
    """

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
    former: Config | None

    @property
    def finished(self) -> bool:
        """True if all steps are done."""
        return self.checkpoints.step >= self.trainer.section.steps


def train(config: Config, phases: list[Phase], out: Path, resume: bool = False) -> Path | None:
    """Train phases of a recipe one after the other, each in its own run folder.

    With `TF_CONFIG` set, this process is one of several workers. Each reads the photos and trains
    on its slice of the same batches; only the chief reads and writes run folders.

    Args:
        config: the recipe.
        phases: of the recipe, in order.
        out: run folder of a single phase; for several, the parent of their run folders.
        resume: continue from the newest readable checkpoint, if there is one.

    Returns:
        The run folder of the last phase; None if a signal stopped the training.

    Raises:
        UserError: the recipe or the arguments name something that is missing or invalid.
        TrainingDivergedError: a loss or gradient was not finite.
    """
    folders = {phase.name: out / phase.name if len(phases) > 1 else out for phase in phases}
    starts = {phase.name: find_start(config, phase, folders) for phase in phases}
    if any(VGG_LOSSES.keys() & phase.section.losses.keys() for phase in phases):
        check_vgg_weights(config.vgg.weights)
    if is_chief():
        if len(phases) > 1 and has_checkpoints(out):
            raise UserError(
                f"{out}: the run of one phase, but --out is for several here; choose the phase by "
                "--stage, or give another --out"
            )
        for phase in phases:
            folder, start = folders[phase.name], starts[phase.name]
            exists = has_checkpoints(folder)
            if exists and not resume:
                raise UserError(
                    f"{folder}: contains a run; continue it with --resume, or give another --out"
                )
            if exists and (own := read_history(folder).get("phase", phase.name)) != phase.name:
                raise UserError(
                    f"{folder}: a run of {own}, not of {phase.name}; choose that phase by --stage, "
                    "or give another --out"
                )
            if not exists and start is not None and start not in map(str, folders.values()):
                try:
                    find_generator(start)
                except UserError as error:
                    raise UserError(f"{phase.name}.start_from: {error}") from None
    # Must run before any other TensorFlow operation.
    strategy = create_strategy()
    for phase in phases:
        _check_batch_size(config, phase, strategy.num_replicas_in_sync)
    print(f"Training on {describe_devices(strategy)}", file=sys.stderr)
    if config.meant_for_gpu and not tf.config.list_logical_devices("GPU"):
        warnings.warn(
            f"the recipe {config.name} needs a GPU (meant_for_gpu), but TensorFlow finds none; "
            f"{install_command('gpu')} installs CUDA",
            stacklevel=2,
        )
    for phase in phases:
        folder = folders[phase.name]
        if not train_phase(config, phase, folder, starts[phase.name], strategy):
            return None
    return folder


def _check_batch_size(config: Config, phase: Phase, devices: int) -> None:
    size = config.data_of(phase).batch_size
    if size % devices:
        section = "data" if phase.section.batch_size is None else phase.name
        raise UserError(
            f"{section}.batch_size ({size}) must be a multiple of the number of devices ({devices})"
        )


def find_start(config: Config, phase: Phase, folders: dict[str, Path]) -> str | None:
    """Find a phase's initial weights, by its `start_from`.

    Args:
        config: the recipe.
        phase: of the recipe.
        folders: run folders by phase; those of other phases have the default path.

    Returns:
        A released name, a file or a run folder; None for new weights.
    """
    start = phase.section.start_from
    if start != PREVIOUS:
        return start
    if phase.index == 0:
        return None if phase.stage == "pretrain" else "srresnet-mse"
    before = config.phases()[phase.index - 1].name
    return str(folders.get(before, default_folder(config, before)))


def default_folder(config: Config, phase: str | None = None) -> Path:
    """Return the default run folder of a phase; for None, the parent of all phases' run folders."""
    return Path("runs") / config.name / (phase or "")


def has_checkpoints(folder: Path) -> bool:
    """Return whether a run folder has checkpoints."""
    return bool(find_checkpoints(folder / CHECKPOINTS_FOLDER))


def train_phase(
    config: Config,
    phase: Phase,
    folder: Path,
    start: str | None,
    strategy: tf.distribute.Strategy,
) -> bool:
    """Train the remaining steps of a phase and write the results to its run folder.

    The folder receives `config.yaml`, `history.json` (the history of the initial weights, the
    photos' fingerprint, and each session's device, steps and seconds), `checkpoints/`, `logs/`
    (TensorBoard), `validation.png` (LR-bicubic | SR | HR) and, at the end, `generator.keras` and
    `card.json`.

    Args:
        config: the recipe.
        phase: of the recipe.
        folder: the run folder.
        start: initial weights, see `find_start`; used by the chief.
        strategy: to train under.

    Returns:
        Whether all steps are done; if not, a signal stopped the training.

    Raises:
        UserError: the recipe or the arguments name something that is missing or invalid.
        TrainingDivergedError: a loss or gradient was not finite.
    """
    with open_run(config, phase, folder, start, strategy) as run:
        if not is_chief():
            train_remaining(run, None)
            return run.finished
        card = read_card(folder / GENERATOR_FILE)
        saved = (folder / GENERATOR_FILE).exists() and card.get("steps") == run.checkpoints.step
        if run.finished and saved:
            print(f"{folder}: already finished", file=sys.stderr)
            return True
        _record_changes(run)
        write_json(folder / HISTORY_FILE, run.history)
        write_config(run.config, folder / CONFIG_FILE)
        validation = Validation(
            run.trainer.ema_generator,
            validation_pairs(run.held_out, config.data, config.generator.scale, config.seed),
            tf.summary.create_file_writer(str(folder / "logs")),
            folder / "validation.png",
        )
        train_remaining(run, validation)
        if run.finished:
            validation.measure(run.checkpoints.step)
            save_generator(run.trainer.ema_generator, folder / GENERATOR_FILE)
            write_json(folder / CARD_FILE, make_card(run, validation.scores))
        validation.writer.close()
        return run.finished


@contextmanager
def open_run(
    config: Config,
    phase: Phase,
    folder: Path,
    start: str | None,
    strategy: tf.distribute.Strategy,
) -> Iterator[Run]:
    """Open the photos, build the models, and restore or initialize their state.

    The run folder is locked against other trainings until the block ends. Arguments and errors are
    those of `train_phase`.
    """
    with _lock(folder) if is_chief() else nullcontext():
        yield _prepare(config, phase, folder, start, strategy)


def _prepare(
    config: Config,
    phase: Phase,
    folder: Path,
    start: str | None,
    strategy: tf.distribute.Strategy,
) -> Run:
    chief = is_chief()
    resumed = chief and has_checkpoints(folder)
    weights = find_generator(start) if chief and not resumed and start is not None else None
    store = open_store(open_source(config.data.source))
    photos, held_out = split_photos(store, config.data, config.seed)
    check_equal(strategy, store.fingerprint, "photos (--data)")
    history: dict[str, Any] = {"phase": phase.name, "sessions": []}
    if resumed:
        history = read_history(folder)
        for key in ("ended", "pid"):  # of the runner, which can't start from what follows
            history.pop(key, None)
    if weights is not None:
        history["parents"] = ancestry(weights)
    known = history.setdefault("fingerprint", store.fingerprint)
    if known != store.fingerprint:
        raise UserError(
            f"{config.data.source}: not the photos that the run in {folder} was started with; "
            "resume it with those, or start a new run with another --out"
        )

    keras.utils.set_random_seed(config.seed)
    if config.deterministic:
        tf.config.experimental.enable_op_determinism()
    own = None
    if resumed and (folder / CONFIG_FILE).exists():
        own = read_config(folder / CONFIG_FILE)
    config = resolve_precision(config, own)
    if own is not None:
        _check_same_models(own, config, phase.name, folder)
    config = config.model_copy(update={"precision": from_chief(strategy, config.precision)})
    recipe = config.model_dump_json(exclude={"data": {"source"}, "vgg": True})
    check_equal(strategy, recipe, "recipes (--config, --set)")
    with strategy.scope():
        trainer = build_trainer(config, phase.section, weights)
        checkpoints = Checkpoints(folder / CHECKPOINTS_FOLDER, trainer, config.checkpoints_kept)
    if resumed and checkpoints.restore():
        print(f"Resumed from step {checkpoints.step}", file=sys.stderr)
        if checkpoints.average_only and checkpoints.step < phase.section.steps:
            raise UserError(
                f"{folder}: a run with --average-only can be finished, with "
                f"--steps {checkpoints.step}, but not continued"
            )
    elif chief:
        write_json(folder / HISTORY_FILE, history)
        checkpoints.save()
    broadcast(strategy, checkpoints.state.values())
    return Run(
        config=config,
        phase=phase,
        folder=folder,
        strategy=strategy,
        store=store,
        photos=photos,
        held_out=held_out,
        trainer=trainer,
        checkpoints=checkpoints,
        history=history,
        former=own,
    )


def _check_same_models(own: Config, config: Config, phase: str, folder: Path) -> None:
    """Raise UserError if a resumed run's checkpoints don't fit the recipe.

    Args:
        own: the run's recipe.
        config: the recipe to continue with.
        phase: the run's.
        folder: the run folder.
    """

    def models(recipe: Config) -> dict[str, Any]:
        found: dict[str, Any] = {"generator": recipe.generator.model_dump()}
        for each in recipe.phases():
            if each.name == phase and isinstance(each.section, GanConfig):
                found[f"{phase}.discriminator"] = each.section.discriminator.model_dump()
                if each.section.discriminator.architecture == "srgan":  # its dense layer's size
                    found["data.hr_crop"] = recipe.data.hr_crop
        return found

    before, now = models(own), models(config)
    if "mixed_float16" in (own.precision, config.precision):  # it has a loss scale to restore
        before["precision"], now["precision"] = own.precision, config.precision
    for key in before.keys() & now.keys():
        if before[key] != now[key]:
            raise UserError(
                f"{folder}: the run's {key} is {before[key]}, not {now[key]}; start a new run with "
                "another --out"
            )


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Create a run folder if needed, and lock it against other trainings.

    A new folder that the block leaves empty is removed.

    Raises:
        UserError: the folder can't be written to, or is locked.
    """
    file, is_new = folder / LOCK_FILE, not folder.exists()
    make_writable_folder(folder)
    try:
        with FileLock(file, blocking=False):
            try:
                yield
            finally:
                if is_new and list(folder.iterdir()) == [file]:
                    file.unlink()
                    folder.rmdir()
    except Timeout:
        raise UserError(
            f"{folder}: another training uses this folder; stop it first, or give another --out"
        ) from None


def _record_changes(run: Run) -> None:
    """Warn of settings of a resumed run that differ from its former ones, and record those."""
    if run.former is None or not run.checkpoints.step:
        return
    before, now = (_settings(config, run.phase.name) for config in (run.former, run.config))
    changed = {
        key: before.get(key)
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key)
    }
    if changed:
        warnings.warn(
            f"{run.folder}: other {', '.join(changed)} than before; card.json will have both",
            stacklevel=2,
        )
        change = {"step": run.checkpoints.step, "before": changed}
        run.history.setdefault("changes", []).append(change)


def _settings(config: Config, phase: str) -> dict[str, Any]:
    """Return what the weights of a phase depend on, except for its number of steps, by key."""
    settings: dict[str, Any] = {"seed": config.seed, "precision": config.precision}
    own = [(each.name, each.section) for each in config.phases() if each.name == phase]
    for name, section in (("data", config.data), *own):
        keys = section.model_dump(exclude={"source", "validation_crop", "steps"})
        settings |= {f"{name}.{key}": value for key, value in keys.items()}
    return settings


def train_remaining(run: Run, validation: Validation | None) -> None:
    """Train a run's remaining steps, or until a signal comes.

    Args:
        run: see `open_run`.
        validation: on the chief; None on other workers.
    """
    config, first = run.config, run.checkpoints.step
    if run.finished:
        return
    sessions, started = list(run.history["sessions"]), time.monotonic()

    def save() -> None:
        if validation is None:
            return
        if not run.checkpoints.save():
            return
        session = {
            "device": describe_devices(run.strategy),
            "first_step": first,
            "last_step": run.checkpoints.step,
            "seconds": round(time.monotonic() - started),
        }
        run.history["sessions"] = [*sessions, session]
        write_json(run.folder / HISTORY_FILE, run.history)

    dataset = run.strategy.distribute_datasets_from_function(
        lambda context: training_dataset(
            run.photos,
            config.data_of(run.phase),
            config.generator.scale,
            config.seed + run.phase.index,
            range(first, run.trainer.section.steps),
            context,
        )
    )
    title = f"{config.name} {run.phase.name}"
    batches = iter(dataset)
    train_steps(
        run.trainer, batches, run.strategy, config, run.checkpoints, save, validation, title
    )


def make_card(run: Run, scores: dict[str, float]) -> dict[str, Any]:
    """Return the card of a finished run's generator: its size, recipe, photos, history and scores.

    If `--resume` changed the recipe, `changes` has the steps and the former values.

    Args:
        run: a finished run, whose generator has been written.
        scores: of the last validation.
    """
    return {
        "name": run.config.name,
        "phase": run.phase.name,
        "stage": run.phase.stage,
        "sha256": sha256(run.folder / GENERATOR_FILE),
        "scale": run.config.generator.scale,
        "parameters": run.trainer.generator.inference_parameters,
        "steps": run.checkpoints.step,
        "recipe": run.config.model_dump(),
        "data": {
            "photos": len(run.photos),
            "held_out": len(run.held_out),
            "fingerprint": run.store.fingerprint,
        },
        "parents": run.history.get("parents", []),
        "sessions": run.history["sessions"],
        **({"changes": run.history["changes"]} if "changes" in run.history else {}),
        "validation": scores,
        "versions": _versions(),
    }


def build_trainer(
    config: Config, section: PretrainConfig | GanConfig, start: Path | None
) -> Pretrainer | GanTrainer:
    """Build the models and optimizers of a phase, in the current strategy's scope.

    Args:
        config: the recipe, with another precision than `auto`.
        section: the phase's.
        start: a `.keras` file with the generator's initial weights; None for new weights.

    Raises:
        UserError: the weights are of another architecture or size, or VGG19's are not available.
    """
    architecture = ARCHITECTURES[config.generator.architecture]
    arguments = config.generator.model_dump(exclude={"architecture"})
    generator = architecture(**arguments, dtype=config.precision)
    ema_generator = architecture(**arguments)
    for model in (generator, ema_generator):
        model.build()
    synchronize(generator, section.bn_synchronized)
    if start is not None:
        weights = load_generator(start)
        given = {key: getattr(weights, key, None) for key in arguments}
        if type(weights) is not architecture or given != arguments:
            raise UserError(
                f"{start}: is {type(weights).__name__} with {given}, but the recipe's generator is "
                f"{architecture.__name__} with {arguments}; change start_from or the section "
                "generator"
            )
        generator.set_weights(weights.get_weights())
    losses = ContentLosses(
        [name for name in section.losses if name != "adversarial"],
        config.generator.scale,
        config.vgg.weights,
        config.precision,
    )
    if isinstance(section, PretrainConfig):
        trainer = LumaPretrainer if isinstance(generator, LumaGenerator) else Pretrainer
        return trainer(generator, ema_generator, losses, section)
    discriminator = DISCRIMINATORS[section.discriminator.architecture](
        section.discriminator.filters, dtype=config.precision
    )
    discriminator.build((None, config.data.hr_crop, config.data.hr_crop, 3))
    synchronize(discriminator, section.bn_synchronized)
    return GanTrainer(generator, ema_generator, discriminator, losses, section)


def save_generator(generator: Generator, path: Path) -> None:
    """Write a generator as a float32 `.keras` file, atomically."""
    with atomic_write(path) as temporary:
        with_precision(generator, "float32").save(temporary)


def _versions() -> dict[str, str]:
    packages = ("tensorflow", "keras", "numpy")
    return {
        "python": platform.python_version(),
        **{package: importlib.metadata.version(package) for package in packages},
    }
