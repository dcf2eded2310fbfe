"""Released weights, and generators by name, file or run folder."""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import TYPE_CHECKING

from srgan_tf.errors import UserError

if TYPE_CHECKING:
    from srgan_tf.models import Generator

_FOLDER = Path(__file__).parent
GENERATOR_FILE = "generator.keras"
CARD_FILE = "card.json"
DEFAULT_MODEL = "srgan-photo"


def released() -> list[str]:
    """Return the names of the released generators."""
    return sorted(path.stem for path in _FOLDER.glob("*.keras"))


def released_generator(name: str) -> Path:
    """Return the `.keras` file of a released name, whatever the current folder contains."""
    return _FOLDER / f"{name}.keras"


def find_generator(name: str | Path) -> Path:
    """Return the `.keras` file of a released name, a file or a run folder.

    A file or a run folder takes precedence over the release of the same name; another folder,
    such as one of results, does not.

    Raises:
        UserError: not found; the message names the nearest and how to train one.
    """
    try:
        if file := own_generator(name):
            return file
        if str(name) in released():
            return released_generator(str(name))
        if Path(name).is_dir():
            inside = [*Path(name).glob(f"*/{GENERATOR_FILE}"), *Path(name).glob("*.tflite")]
            inside += Path(name).glob("*/*/saved_model.pb")
            models = sorted(str(p if p.suffix == ".tflite" else p.parent) for p in inside)
            remedy = f"give one of {', '.join(models)}" if models else "has its run ended?"
            raise UserError(f"{name}: no {GENERATOR_FILE} in this folder; {remedy}")
    except OSError as error:  # no permission, or too long a name
        raise UserError(f"{name}: can't be read ({error.strerror})") from None
    names = released()
    near = difflib.get_close_matches(str(name), names, n=1)
    raise UserError(
        f"{name}: no such weights"
        + (f", did you mean {near[0]}?" if near else ".")
        + f" Give a released name ({', '.join(names) or 'none yet'}), a .keras file or a run "
        "folder; `srgan train --stage pretrain` creates one under runs/"
    )


def find_litert(name: str | Path) -> Path | None:
    """Return a released name's `.tflite` file; None if it has none, or if a path has precedence."""
    if str(name) not in released():
        return None
    file = _FOLDER / f"{name}.tflite"
    try:
        return file if file.is_file() and own_generator(name) is None else None
    except OSError:  # no permission
        return None


def own_generator(path: str | Path) -> Path | None:
    """Return the file itself or a run folder's generator; None if the path is neither."""
    return next(
        (file for file in (Path(path) / GENERATOR_FILE, Path(path)) if file.is_file()), None
    )


def generator_title(name: str | Path) -> str:
    """Return a name for a generator's exports.

    Returns:
        The released name; a file's stem; the name of a run folder, RUN-PHASE for runs/RUN/PHASE.
    """
    file = own_generator(name)
    if file is None:
        return str(name)
    file = file.resolve()
    if file.name != GENERATOR_FILE:
        return file.stem
    folder = file.parent
    is_phase = re.fullmatch(r"(pretrain|gan)(-\d+)?", folder.name)
    return f"{folder.parent.name}-{folder.name}" if is_phase else folder.name


def load_generator(name: str | Path, precision: str = "float32") -> Generator:
    """Load a generator.

    Args:
        name: a released name, a `.keras` file or a run folder.
        precision: the dtype policy to compute in, whatever it was saved with.

    Raises:
        UserError: not found, or not a generator of this project.
    """
    import keras

    from srgan_tf.models import Generator

    path = find_generator(name)
    try:
        model = keras.models.load_model(path, compile=False)
    except Exception as error:
        raise UserError(f"{path}: can't be read as a Keras model ({error})") from None
    if not isinstance(model, Generator):
        raise UserError(f"{path}: contains a {type(model).__name__}, not a generator")
    if model.dtype_policy.name == precision:
        return model
    return with_precision(model, precision)


def with_precision(generator: Generator, precision: str) -> Generator:
    """Return a copy of a generator with another dtype policy."""
    copy = type(generator).from_config({**generator.get_config(), "dtype": precision})
    copy.build()
    copy.set_weights(generator.get_weights())
    return copy
