"""A study's ratings as CSV or JSON, and the codebook of their columns."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from typing import Any

from srgan_tf.markdown import markdown_table
from srgan_tf.mos.database import RatingRow
from srgan_tf.mos.design import SCORE_LABELS, Design

CODEBOOK = {
    "rater": "number of the rater, in the order of joining; nicknames are left out",
    "order": "place of this rating among the rater's, from 1",
    "set": "name of the image set",
    "image": "name of the image within its set",
    "method": "method of the version shown; hr is the original image",
    "repeat": "1: the rater had seen this version before, to measure consistency; else 0",
    "score": "the opinion: " + ", ".join(f"{n} {word}" for n, word in SCORE_LABELS.items()),
    "undone": "number of earlier scores for this showing that the rater took back",
    "rated": "time when the score was stored, UTC, ISO 8601",
    "milliseconds": "time from the image's appearance to the score, measured by the browser; may "
    "be empty",
    "pixel_ratio": "screen pixels per CSS pixel (window.devicePixelRatio); each image pixel "
    "covered an integer number of screen pixels, this ratio rounded down and at least 1; may be "
    "empty",
}


def records(design: Design, rated: Iterable[RatingRow]) -> list[dict[str, Any]]:
    """Return one record per rating, with the keys of `CODEBOOK`."""
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
    """Format records as CSV (RFC 4180) with a header line."""
    text = io.StringIO()
    writer = csv.DictWriter(text, CODEBOOK)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def to_json(design: Design, rows: Sequence[dict[str, Any]]) -> str:
    """Format the study's design without version ids, the codebook and the ratings as JSON."""
    study = design.model_dump(include={"title", "scale", "ratings_per_rater", "repeats", "created"})
    return json.dumps({"study": study, "codebook": CODEBOOK, "ratings": rows}, indent=1) + "\n"


def to_markdown() -> str:
    """Format the codebook as Markdown."""
    table = markdown_table(["column", "meaning"], CODEBOOK.items())
    return f"# Columns of ratings.csv\n\n{table}\n"
