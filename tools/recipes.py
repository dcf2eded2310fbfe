"""Compare the recipes of short runs: their learning curves, and the keys that differ.

    python tools/recipes.py RUN_DIR [RUN_DIR …] [--out FILE]

Curves are those of a release's card: validations on the held-out photos, never on the benchmark
sets, and a GAN's losses. A run that has not ended is included as far as it went.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import yaml
from release import curve, strip_folders

from srgan_tf.cli.common import run
from srgan_tf.errors import UserError
from srgan_tf.files import write_json
from srgan_tf.training.run import CONFIG_FILE


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten {"a": {"b": 1}} to {"a.b": 1}."""
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            leaves |= flatten(value, f"{prefix}{key}.")
        else:
            leaves[f"{prefix}{key}"] = value
    return leaves


def compare(arguments: argparse.Namespace) -> int:
    if len({folder.name for folder in arguments.runs}) < len(arguments.runs):
        raise UserError("two runs have the same last path component, which must be unique")

    recipes = {}
    for folder in arguments.runs:
        if not (folder / CONFIG_FILE).is_file():
            raise UserError(f"{folder}: not a run folder, which has a {CONFIG_FILE}")
        recipe = yaml.safe_load((folder / CONFIG_FILE).read_text(encoding="utf-8"))
        strip_folders(recipe)
        recipes[folder.name] = flatten(recipe)
    keys = sorted({key for recipe in recipes.values() for key in recipe})
    first = next(iter(recipes.values()))
    differing = [
        key for key in keys if any(recipe.get(key) != first.get(key) for recipe in recipes.values())
    ]
    results: dict[str, Any] = {
        "command": f"python tools/recipes.py {' '.join(recipes)}",
        "recipe": {k: first.get(k) for k in keys if k not in differing},
        "runs": {},
    }
    for folder in arguments.runs:
        differences = {key: recipes[folder.name].get(key) for key in differing}
        rows = curve(folder / "logs")
        results["runs"][folder.name] = {"recipe": differences, "curve": rows}
        last = next((row for row in reversed(rows) if "psnr" in row), {})
        print(f"{folder.name}: {differences}: {last.get('psnr')} dB after {last.get('step')} steps")
    if arguments.out:
        former = json.loads(arguments.out.read_text()) if arguments.out.exists() else []
        others = [r for r in former if r["command"] != results["command"]]
        write_json(arguments.out, [*others, results], indent=1)
    return 0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN_DIR")
    parser.add_argument("--out", type=Path, help="add the curves to this JSON file")
    run(parser, None, compare)


if __name__ == "__main__":
    main()
