"""How weights came to be, as run folders and cards tell it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from srgan_tf.files import atomic_write
from srgan_tf.weights import CARD_FILE, GENERATOR_FILE

HISTORY_FILE = "history.json"
_OF_A_PARENT = ("name", "phase", "stage", "steps", "recipe", "data", "sessions")


def read_history(folder: Path) -> dict[str, Any]:
    """Read a run folder's `history.json`; a run of an earlier version has none."""
    try:
        return json.loads((folder / HISTORY_FILE).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {"sessions": []}


def write_json(value: dict[str, Any], path: Path) -> None:
    """Write a JSON file, whole or not at all."""
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def ancestry(weights: Path) -> list[dict[str, Any]]:
    """Tell where weights to start from are from, the oldest first.

    Each of them is its file's SHA-256 and, where its card says so, its recipe, phase, steps, photos
    and sessions (device and seconds).

    Args:
        weights: a `.keras` file; its card lies beside it, in a run folder and of a release.
    """
    digest = sha256(weights)
    in_a_run = weights.name == GENERATOR_FILE
    card_file = weights.with_name(CARD_FILE) if in_a_run else weights.with_suffix(".json")
    try:
        card = json.loads(card_file.read_text(encoding="utf-8"))
        if card.get("sha256", digest) != digest:
            card = {}  # of other weights, which lay here before
    except (OSError, ValueError, AttributeError):
        card = {}
    itself = {key: card[key] for key in _OF_A_PARENT if key in card}
    return [*card.get("parents", []), {"sha256": digest, **itself}]
