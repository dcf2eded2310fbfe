"""The packaged recipes, one YAML file each, and how to find them by name."""

from __future__ import annotations

import difflib
from pathlib import Path

from srgan_tf.errors import UserError

_FOLDER = Path(__file__).parent


def recipes() -> dict[str, Path]:
    """Return the packaged recipes by name."""
    return {path.stem: path for path in sorted(_FOLDER.glob("*.yaml"))}


def find_recipe(name: str | Path) -> Path:
    """Return the YAML file of a path or of a packaged recipe's name, with or without `.yaml`.

    A file takes precedence over a recipe of the same name.

    Raises:
        UserError: no such recipe; the message names the nearest and the folder of the recipes.
    """
    path = Path(name)
    packaged = recipes()
    stem = str(name).removesuffix(".yaml")
    try:
        if path.exists() and not (path.is_dir() and stem in packaged):
            return path
    except OSError as error:  # no permission, or too long a name
        raise UserError(f"{name}: can't be read ({error.strerror})") from None
    if stem in packaged:
        return packaged[stem]
    known = {recipe: recipe for recipe in packaged}
    known |= {file.stem: str(file) for file in path.parent.glob("*.yaml")}
    near = difflib.get_close_matches(path.name.removesuffix(".yaml"), known, n=1)
    raise UserError(
        f"{name}: no such recipe"
        + (f", did you mean {known[near[0]]}?" if near else ".")
        + f" Give a .yaml file or the name of one in {_FOLDER}"
    )
