"""Train with a portable step, on a GPU, TPU or CPU with JAX and without TensorFlow.

    python -m srgan_tf.training.jax_runner STEP_DIR --data PHOTOS --out RUN_DIR [--minutes M]

STEP_DIR is a folder that `srgan train --export-step` wrote, PHOTOS the folder of the same photos.
Only JAX, NumPy, Pillow and tqdm are needed. `srgan train --resume --out RUN_DIR` continues the run
or, after its last step, finishes it: validation, generator.keras and card.json.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

import numpy as np
from PIL import Image, ImageOps
from tqdm import tqdm

from srgan_tf.cores import available_cores
from srgan_tf.data.crops import validation_crops
from srgan_tf.data.loader import load_batches
from srgan_tf.data.store import PhotoSource, PhotoStore, files_key, open_store
from srgan_tf.errors import UserError
from srgan_tf.files import atomic_write, first_line, make_writable_folder, sha256, write_json
from srgan_tf.metrics import mean_psnr, psnr_y
from srgan_tf.ranges import denormalize
from srgan_tf.training.schedule import learning_rate

PLAN_FILE, STATE_FILE = "plan.json", "state.npz"
STEP_FILE, VALIDATION_FILE = "step.mlir", "validation.mlir"
MEASURED_STEPS = 500
"""Number of steps between measurements of the speed, for --minutes."""


def draw_uniform(draw: dict[str, Any], shape: tuple[int, ...]) -> np.ndarray:
    """Draw float32 values, uniform in [-limit, limit).

    Args:
        draw: `seed` and `limit`.
        shape: of the result.
    """
    values = np.random.default_rng(draw["seed"]).random(shape, np.float32)
    return (2.0 * values - 1.0) * np.float32(draw["limit"])


def read_state(folder: Path, plan: dict[str, Any]) -> dict[str, np.ndarray]:
    """Read the initial values of all variables, by key, from `state.npz`."""
    values: dict[str, np.ndarray] = {}
    with np.load(folder / STATE_FILE) as arrays:
        for key, about in plan["variables"].items():
            shape, dtype = tuple(about["shape"]), np.dtype(about["dtype"])
            if "zeros" in about:
                values[key] = np.zeros(shape, dtype)
            elif "same_as" in about:
                values[key] = values[about["same_as"]]
            elif "draw" in about:
                values[key] = draw_uniform(about["draw"], shape)
            elif f"{key}:codes" in arrays:
                values[key] = arrays[f"{key}:levels"][arrays[f"{key}:codes"]]
            else:
                values[key] = arrays[key]
    return values


def namespace(value: Any) -> Any:
    """Convert nested dictionaries to objects with attributes, as the recipe's sections have."""
    if isinstance(value, dict):
        return SimpleNamespace(**{key: namespace(inner) for key, inner in value.items()})
    return [namespace(inner) for inner in value] if isinstance(value, list) else value


def section_of(plan: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    """Return the section of the plan's phase in a recipe."""
    phases = config[plan["stage"]]
    return phases[plan["place"]] if isinstance(phases, list) else phases


class Executable:
    """A StableHLO module, compiled for JAX's first device."""

    def __init__(self, path: Path):
        import jax
        import jax.extend.backend
        from jaxlib import xla_client

        backend = jax.extend.backend.get_backend()
        self.device = backend.local_devices()[0]
        self._loaded = backend.compile_and_load(
            path.read_bytes(), xla_client.DeviceList((self.device,)), xla_client.CompileOptions()
        )

    def __call__(self, arguments: list) -> list:
        """Run the module; arguments that an output replaces are donated, and invalid afterwards."""
        results = self._loaded.execute_sharded(arguments).disassemble_into_single_device_arrays()
        return [result[0] for result in results]


class Training:
    """A run's state on the device, and the steps that change it.

    Args:
        folder: written by `srgan train --export-step`.

    Raises:
        UserError: the folder has no portable step.
    """

    def __init__(self, folder: Path):
        import jax

        self._put = jax.device_put
        if not (folder / PLAN_FILE).is_file():
            raise UserError(f"{folder}: no {PLAN_FILE}; write it with srgan train --export-step")
        self.plan = json.loads((folder / PLAN_FILE).read_text(encoding="utf-8"))
        self.config = namespace(self.plan["config"])
        self.section = namespace(section_of(self.plan, self.plan["config"]))
        self.data = namespace(self.plan["data"])
        self._step = Executable(folder / STEP_FILE)
        self._validation = Executable(folder / VALIDATION_FILE)
        self.device = self._step.device
        self.set_state(read_state(folder, self.plan))
        self.step = 0

    def set_state(self, values: dict[str, np.ndarray]) -> None:
        """Copy the values of all variables to the device, each to its own buffer."""
        self._values = {key: self._put(np.array(v), self.device) for key, v in values.items()}

    def start_from(self, checkpoint: Path) -> None:
        """Set the generator and its moving average to the average in another run's checkpoint.

        Raises:
            UserError: it is of another generator.
        """
        with np.load(checkpoint) as arrays:
            average = {key: arrays[key] for key in arrays.files if key.startswith("average/")}
        own = {key: value for key, value in self._values.items() if key.startswith("average/")}
        if {k: v.shape for k, v in average.items()} != {k: v.shape for k, v in own.items()}:
            raise UserError(f"{checkpoint}: not of the generator of this step")
        for key, value in average.items():
            for name in (key.replace("average", "generator"), key):
                self._values[name] = self._put(np.array(value), self.device)

    def state(self) -> dict[str, np.ndarray]:
        """Return the variables that training changes, by the keys of `training_state`."""
        return {
            key: np.asarray(value)
            for key, value in self._values.items()
            if not key.startswith(("constant/", "learning_rate"))
        }

    def update(self, lr: np.ndarray, hr: np.ndarray) -> list:
        """Train on one batch of uint8 LR and HR.

        Returns:
            The logs, scalars on the device, in the order of the plan's `logs`.
        """
        rate = self._put(np.float32(learning_rate(self.section, self.step)), self.device)
        self._values["learning_rate"] = rate
        about = self.plan["step"]
        arguments = [self._put(lr, self.device), self._put(hr, self.device)]
        arguments += [self._values[key] for key in about["inputs"]]
        outputs = self._step(arguments)
        for output, key in about["replaces"].items():
            self._values[key] = outputs[int(output)]
        self.step += 1
        return outputs[: len(about["logs"])]

    def enlarge(self, lr: np.ndarray) -> np.ndarray:
        """Enlarge uint8 [1, h, w, 3] to uint8 [1, H, W, 3] with the moving average."""
        about = self.plan["validation"]
        arguments = [self._put(lr, self.device), *(self._values[key] for key in about["inputs"])]
        (sr,) = self._validation(arguments)
        return np.clip(np.rint(denormalize(np.asarray(sr))), 0, 255).astype(np.uint8)


def open_photos(folder: Path, names: list[str]) -> PhotoStore:
    """Decode photos to upright RGB.

    Args:
        folder: of the photos.
        names: paths of the photos in the folder.

    Raises:
        UserError: a photo is missing or damaged.
    """
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise UserError(
            f"{folder}: {len(missing)} of the {len(names)} photos with which the step was exported "
            f"are missing, such as {missing[0]}"
        )

    def photos() -> Iterator[tuple[str, np.ndarray | Exception]]:
        for name in names:
            try:
                upright = ImageOps.exif_transpose(Image.open(folder / name))
                pixels = np.asarray(upright.convert("RGB"))
            except Exception as error:  # Pillow's decoders raise nearly anything on damaged files
                raise UserError(
                    f"{folder / name}: can't be read ({first_line(error)}); replace it with the "
                    "photo with which the step was exported"
                ) from None
            yield name, pixels

    files = files_key(folder, [folder / name for name in names])
    key = f"runner\0{folder.resolve()}\0{files}"
    return open_store(PhotoSource(str(folder), key, len(names), photos))


def validation_pairs(held_out: PhotoStore, config) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the pairs of `validation_crops` for the photos that are large enough.

    Args:
        held_out: the held-out photos.
        config: the recipe.

    Raises:
        UserError: no photo is large enough.
    """
    side = config.data.validation_crop
    crops = validation_crops(held_out, config.data, config.generator.scale, config.seed)
    pairs = [(lr, hr) for lr, hr in crops if hr.shape[:2] == (side, side)]
    if not pairs:
        raise UserError(
            f"no held-out photo has sides of at least {side} pixels: export the step with a lower "
            "data.validation_crop"
        )
    return pairs


def save(training: Training, out: Path, average_only: bool = False) -> None:
    """Write a checkpoint that `srgan train --resume` reads, and delete all but the newest two.

    Args:
        training: the state to save.
        out: the run folder.
        average_only: save only the moving average, with which a run can be finished but not
            continued.
    """
    state = training.state()
    if average_only:
        state = {k: v for k, v in state.items() if k == "optimizer/0" or k.startswith("average/")}
    with atomic_write(out / "checkpoints" / f"step-{training.step}.npz") as temporary:
        np.savez(temporary, allow_pickle=False, **state)
    for old in checkpoints(out)[:-2]:
        old.unlink()


def checkpoints(run: Path) -> list[Path]:
    """Return the checkpoints of a run, the newest last."""
    saved = (run / "checkpoints").glob("step-*.npz")
    return sorted(saved, key=lambda path: int(path.stem.rpartition("-")[2]))


def prepare_folder(out: Path) -> IO[str]:
    """Create the run folder if needed, and lock it against other trainings until the file closes.

    Returns:
        The locked file.

    Raises:
        UserError: the folder contains a run's checkpoints, is locked, or can't be written to.
    """
    if any((out / "checkpoints").glob("step-*")):
        raise UserError(
            f"{out}: contains a run; choose another --out, or delete it. srgan train --resume "
            "continues it"
        )
    for folder in (out, out / "checkpoints"):
        make_writable_folder(folder)
    import fcntl  # TensorFlow's side imports this module on Windows too

    lock = (out / ".lock").open("w")  # as filelock does in srgan_tf.training.run
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UserError(
            f"{out}: another training uses this folder; stop it first, or give another --out"
        ) from None
    return lock


def has_ended(run: Path) -> bool:
    """Return whether another run of this module has ended; False if it has not begun.

    Raises:
        UserError: `srgan train` trained it, or it failed.
    """
    history = run / "history.json"
    if not history.exists():
        return False
    content = json.loads(history.read_text(encoding="utf-8"))
    if "ended" not in content:
        raise UserError(
            f"{run}: trained by srgan train, but --start-from and --after need a run of "
            "srgan_tf.training.jax_runner; to start from these weights, export the step with "
            f"--set PHASE.start_from={run}"
        )
    if not content["ended"] and not _is_running(content["pid"]):
        content = json.loads(history.read_text(encoding="utf-8"))  # it may just have ended
        if not content["ended"]:
            raise UserError(f"{run}: this run failed or was killed; see its output")
    return content["ended"]


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # of another user
        pass
    return True


def wait_for(run: Path) -> Path:
    """Wait until another run has ended, and return its newest checkpoint.

    Raises:
        UserError: `srgan train` trained it, it failed, or it has no checkpoint.
    """
    if not has_ended(run):
        print(f"Waiting for the run in {run} to end", flush=True)
    while not has_ended(run):
        time.sleep(0.2)
    saved = checkpoints(run)
    if not saved:
        raise UserError(f"{run}: has ended, but contains no checkpoint step-N.npz")
    return saved[-1]


def parents_of(run: Path, checkpoint: Path) -> list[dict[str, Any]]:
    """Return the history of a checkpoint's weights, see `srgan_tf.training.history.ancestry`."""
    history, config = (
        json.loads((run / name).read_text(encoding="utf-8"))
        for name in ("history.json", "config.yaml")
    )
    itself = {
        "sha256": sha256(checkpoint),
        "name": config["name"],
        "phase": history["phase"],
        "stage": history["phase"].partition("-")[0],
        "steps": history["sessions"][-1]["last_step"],
        "recipe": config,
        "sessions": history["sessions"],
    }
    return [*history["parents"], itself]


def run(arguments: argparse.Namespace) -> None:
    """Train until all steps are done, the time is over, or a signal comes.

    Raises:
        UserError: the portable step, its photos or another run can't be used, or the run folder
            contains a run or can't be written to.
        SystemExit: a log is not finite.
    """
    started = time.monotonic()
    out = arguments.out
    for other in (arguments.after, arguments.start_from):
        if other is not None:
            has_ended(other)  # refuses runs of srgan train before compiling
    lock = prepare_folder(out)
    write_json(out / "history.json", {"ended": False, "pid": os.getpid()})
    training = Training(arguments.step)
    plan, config = training.plan, training.config
    store = open_photos(arguments.data, plan["names"])
    if store.fingerprint != plan["fingerprint"]:
        print(
            f"warning: {arguments.data}: pixels differ from those of the photos that the step was "
            "exported with",
            flush=True,
        )
    photos, held_out = store.subset(plan["photos"]), store.subset(plan["held_out"])
    pairs = validation_pairs(held_out, config)
    rows: list[dict[str, float]] = []
    compiled = time.monotonic() - started
    if arguments.after is not None:
        wait_for(arguments.after)
    if arguments.start_from is not None:
        checkpoint = wait_for(arguments.start_from)
        training.start_from(checkpoint)
        plan["parents"] = parents_of(arguments.start_from, checkpoint)
    started = time.monotonic()
    stop = False

    def request_stop(*_) -> None:
        nonlocal stop
        stop = True

    signal.signal(signal.SIGTERM, request_stop)
    signal.signal(signal.SIGINT, request_stop)
    elements = ((step, range(training.data.batch_size)) for step in range(training.step, 10**9))
    batches = load_batches(
        photos.open,
        training.data,
        config.generator.scale,
        plan["batch_seed"],
        elements,
        available_cores(),
    )
    print(f"Training on {training.device.device_kind}; compiling took {compiled:.0f} s", flush=True)
    # Closed also after an error, as the processes that load batches would be left otherwise.
    with (
        lock,
        closing(batches),
        tqdm(total=training.section.steps, unit="step", mininterval=5) as bar,
    ):
        first, saved = time.monotonic(), training.step
        for lr, hr in batches:
            logs = training.update(lr, hr)
            bar.update(1)
            step = training.step
            if arguments.minutes and step % MEASURED_STEPS == 0:
                np.asarray(logs[0])  # waits for the device
                rate = MEASURED_STEPS / (time.monotonic() - first)
                left = 60 * arguments.minutes - (time.monotonic() - started)
                if step > MEASURED_STEPS and left > 30 * arguments.minutes:
                    training.section.steps = step + int(left * rate)
                    bar.total = training.section.steps
                    print(
                        f"{rate:.1f} steps/s: training for {training.section.steps} steps",
                        flush=True,
                    )
                first = time.monotonic()
            over = arguments.minutes and time.monotonic() - started > 60 * arguments.minutes
            ends = bool(step >= training.section.steps or over or stop)
            saves = ends or step % config.checkpoint_every == 0
            validates = ends or step % config.validate_every == 0
            # A step's losses are those of the state before it, as in `srgan_tf.training.loop`.
            if saves or validates or step == saved + 1:
                row = dict(zip(plan["step"]["logs"], map(float, logs), strict=True))
                check_finite(row, step, out)
            if validates:
                row = {"step": step, **row, "psnr": validation_psnr(training, pairs)}
                rows.append(row)
                print(json.dumps({k: round(v, 5) for k, v in row.items()}), flush=True)
            if saves:
                saved = step
                save(training, out, average_only=ends and arguments.average_only)
                _write_history(training, out, rows, time.monotonic() - started, ends)
            if ends:
                break


def check_finite(logs: dict[str, float], step: int, out: Path) -> None:
    """Stop if a log of step number `step`, from 1, is not finite.

    A checkpoint of the state before the step is deleted if a loss is not finite, as that state is
    bad.

    Raises:
        SystemExit: a log is not finite.
    """
    bad = [name for name, value in logs.items() if not np.isfinite(value)]
    if not bad:
        return
    if any("norm" not in name for name in bad):
        (out / "checkpoints" / f"step-{step - 1}.npz").unlink(missing_ok=True)
    left = checkpoints(out)
    raise SystemExit(
        f"error: step {step}: {', '.join(bad)} is not finite; training stopped. "
        + (f"The last good state is {left[-1]}" if left else "No state was saved before it")
    )


def validation_psnr(training: Training, pairs: list[tuple[np.ndarray, np.ndarray]]) -> float:
    """Return the mean PSNR on Y of the moving average on (lr, hr) pairs, in dB."""
    border = training.config.generator.scale
    return mean_psnr(psnr_y(hr, training.enlarge(lr[None])[0], border) for lr, hr in pairs)


def _write_history(training: Training, out: Path, rows: list, seconds: float, ended: bool) -> None:
    session = {
        "device": f"1 × {training.device.device_kind}",
        "first_step": 0,
        "last_step": training.step,
        "seconds": round(seconds),
        "curve": rows,
    }
    plan = training.plan
    history = {
        "phase": plan["phase"],
        "parents": plan["parents"],
        "fingerprint": plan["fingerprint"],
        "ended": ended,
        "pid": os.getpid(),
        "sessions": [session],
    }
    config = copy.deepcopy(plan["config"])
    section_of(plan, config)["steps"] = training.section.steps
    write_json(out / "config.yaml", config)
    write_json(out / "history.json", history)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m srgan_tf.training.jax_runner",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "step",
        type=Path,
        metavar="STEP_DIR",
        help="folder that `srgan train --export-step` wrote",
    )
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        metavar="PHOTOS",
        help="folder of the photos with which the step was exported",
    )
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="RUN_DIR",
        help="run folder, for checkpoints, config.yaml and history.json",
    )
    parser.add_argument(
        "--minutes",
        type=float,
        metavar="M",
        help="fit the number of steps to this time, by the speed measured in its first half; "
        "default: the recipe's steps",
    )
    parser.add_argument(
        "--after",
        type=Path,
        metavar="RUN_DIR",
        help="compile, then start training when the run in this folder has ended",
    )
    parser.add_argument(
        "--start-from",
        type=Path,
        metavar="RUN_DIR",
        help="as --after, and start from that run's moving average",
    )
    parser.add_argument(
        "--average-only",
        action="store_true",
        help="save only the moving average at the end, a sixth of a checkpoint; the run can then "
        "be finished, but not continued",
    )
    os.environ.setdefault("JAX_ENABLE_X64", "1")  # optimizers count in int64
    try:
        run(parser.parse_args())
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
