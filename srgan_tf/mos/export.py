"""All ratings of a study as CSV or JSON, with what each column means."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from typing import Any

from srgan_tf.mos.design import SCALE_LABELS, Design
from srgan_tf.mos.store import Rated

CODEBOOK = {
    "rater": "number of the rater, in the order they joined; names are not exported",
    "order": "place of this rating among the rater's, from 1",
    "set": "name of the image set",
    "image": "name of the image within its set",
    "method": "what made the version shown; hr is the original image",
    "repeat": "1: the rater had seen this version before, to measure consistency; else 0",
    "score": "the opinion: " + ", ".join(f"{n} {word}" for n, word in SCALE_LABELS.items()),
    "undone": "how many times the rater took back a score for this showing before this one",
    "rated": "when the score was stored, UTC, ISO 8601",
    "milliseconds": "from the image's appearance to the score, as the browser measured; may be "
    "empty",
    "pixel_ratio": "screen pixels a CSS pixel (window.devicePixelRatio); each image pixel "
    "covered a whole number of screen pixels, this ratio rounded down and at least 1; may be "
    "empty",
}


def records(design: Design, rated: Iterable[Rated]) -> list[dict[str, Any]]:
    """A record a rating, with the keys of `CODEBOOK`."""
    versions = {version.id: version for version in design.versions}
    return [
        {
            "rater": rating.rater,
            "order": rating.position + 1,
            "set": versions[rating.version].set,
            "image": versions[rating.version].image,
            "method": versions[rating.version].method,
            "repeat": int(rating.repeat),
            "score": rating.score,
            "undone": rating.undone,
            "rated": rating.rated.isoformat(timespec="milliseconds"),
            "milliseconds": rating.milliseconds,
            "pixel_ratio": rating.pixel_ratio,
        }
        for rating in rated
    ]


def to_csv(rows: Sequence[dict[str, Any]]) -> str:
    """RFC 4180, with a header line."""
    text = io.StringIO()
    writer = csv.DictWriter(text, CODEBOOK)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def to_json(design: Design, rows: Sequence[dict[str, Any]]) -> str:
    """The codebook, the study's design without its versions' ids, and the ratings."""
    study = design.model_dump(include={"title", "scale", "ratings_per_rater", "repeats", "created"})
    return json.dumps({"study": study, "codebook": CODEBOOK, "ratings": rows}, indent=1) + "\n"


def codebook() -> str:
    """The codebook in Markdown."""
    lines = [f"| {name} | {meaning} |" for name, meaning in CODEBOOK.items()]
    return "\n".join(
        ["# Columns of ratings.csv", "", "| column | meaning |", "|---|---|", *lines, ""]
    )
