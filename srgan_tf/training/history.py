"""The history of weights: a run's sessions, and the weights that it started from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from srgan_tf.errors import UserError
from srgan_tf.files import sha256
from srgan_tf.weights import CARD_FILE, GENERATOR_FILE

HISTORY_FILE = "history.json"
_INHERITED = ("name", "phase", "stage", "steps", "recipe", "data", "sessions", "changes")


def read_history(folder: Path) -> dict[str, Any]:
    """Read a run folder's `history.json`, which runs of an earlier version don't have.

    Raises:
        UserError: it is damaged.
    """
    file = folder / HISTORY_FILE
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {"sessions": []}
    except ValueError as error:
        raise UserError(
            f"{file}: damaged ({error}); delete it to continue without what it records: earlier "
            "sessions, and the weights and photos that the run began with"
        ) from None


def read_card(weights: Path) -> dict[str, Any]:
    """Read the card beside weights; empty if there is none, or if it is damaged.

    Args:
        weights: a `.keras` file of a run folder or a release.
    """
    is_run = weights.name == GENERATOR_FILE
    card_file = weights.with_name(CARD_FILE) if is_run else weights.with_suffix(".json")
    try:
        card = json.loads(card_file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return card if isinstance(card, dict) else {}


def ancestry(weights: Path) -> list[dict[str, Any]]:
    """Return the history of weights: an entry for each file they descend from, the oldest first.

    An entry has a file's SHA-256 and, if it has a card, its recipe, phase, steps, photos and
    sessions (device and seconds).

    Args:
        weights: a `.keras` file of a run folder or a release, with or without a card beside it.
    """
    digest, card = sha256(weights), read_card(weights)
    if card.get("sha256", digest) != digest:
        card = {}  # of earlier weights of this name
    itself = {key: card[key] for key in _INHERITED if key in card}
    return [*card.get("parents", []), {"sha256": digest, **itself}]
