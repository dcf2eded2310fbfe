"""Tables: the paper's two with our scores, the paper's and the difference; and degraded LR."""

from __future__ import annotations

import html
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from srgan_tf.evaluation.benchmark import Scores
from srgan_tf.evaluation.degradations import CLEAN
from srgan_tf.evaluation.metrics import METRICS
from srgan_tf.evaluation.paper import TABLE_1, TABLE_2, Table
from srgan_tf.markdown import markdown_table

MISSING = "–"


@dataclass(frozen=True)
class Grid:
    """A table of text; a row with an empty first cell belongs to the row above."""

    title: str
    header: list[str]
    rows: list[list[str]]

    def to_markdown(self) -> str:
        """Format as GitHub's Markdown, without the title."""
        return markdown_table(self.header, self.rows, left=2)

    def to_html(self) -> str:
        """Format as a `<table>` with the title as its caption."""

        def row(cells: Iterable[str], tag: str) -> str:
            return "<tr>" + "".join(f"<{tag}>{html.escape(c)}</{tag}>" for c in cells) + "</tr>"

        body = "".join(row(cells, "td") for cells in self.rows)
        return (
            f"<table><caption>{html.escape(self.title)}</caption>"
            f"<thead>{row(self.header, 'th')}</thead><tbody>{body}</tbody></table>"
        )


def tables(scores: Scores, scale: int) -> list[Grid]:
    """Return the paper's tables for clean LR, and tables of degraded LR, if there are any."""
    return [*paper_tables(scores, scale), *_degraded_tables(scores, scale)]


def paper_tables(scores: Scores, scale: int) -> list[Grid]:
    """Return Tables 1 and 2 as in the paper, with further methods and sets at the end of Table 2.

    Tables without evaluated methods are omitted, and so are the paper's scores at other scales
    than ×4.
    """
    clean = _sets_with(scores, CLEAN.name)
    here = {method.name for method in scores.methods}
    paper_methods = {name for table in (TABLE_1, TABLE_2) for name, _ in table.columns}
    more = [(m.name, m.label) for m in scores.methods if m.name not in paper_methods]
    grids = []
    if here & {name for name, _ in TABLE_1.columns}:
        sets = [name for name in clean if name in TABLE_1.sets]
        grids.append(_grid(TABLE_1, sets, TABLE_1.columns, scores, scale))
    grids.append(_grid(TABLE_2, clean, (*TABLE_2.columns, *more), scores, scale))
    return [grid for grid in grids if grid.rows]


def _sets_with(scores: Scores, degradation: str) -> list[str]:
    return [n for n, images in scores.sets.items() if images[0].degradation.name == degradation]


def _degraded_tables(scores: Scores, scale: int) -> list[Grid]:
    """Return means over each degraded set and, with several sets, over the sets per degradation."""
    columns = tuple((method.name, method.label) for method in scores.methods)
    kinds = list(dict.fromkeys(images[0].degradation.name for images in scores.sets.values()))
    degraded = [n for kind in kinds if kind != CLEAN.name for n in _sets_with(scores, kind)]
    if not degraded:
        return []
    grids = [_grid(Table("Degraded LR", columns, (), {}), degraded, columns, scores, scale)]
    if len({images[0].clean_set for images in scores.sets.values()}) > 1:
        rows = []
        for kind in kinds:
            for index, metric in enumerate(scores.metrics):
                cells = [
                    format_value(
                        _mean_over_sets(scores, kind, method, metric), METRICS[metric].format
                    )
                    for method, _ in columns
                ]
                rows.append(["" if index else kind, METRICS[metric].heading, *cells])
        header = ["", "", *(label for _, label in columns)]
        grids.append(Grid("Mean over the sets, equally weighted", header, rows))
    return grids


def _mean_over_sets(scores: Scores, kind: str, method: str, metric: str) -> float | None:
    means = [scores.mean(name, method, metric) for name in _sets_with(scores, kind)]
    known = [mean for mean in means if mean is not None]
    return float(np.mean(known)) if len(known) == len(means) else None


def _grid(table: Table, sets, columns, scores: Scores, scale: int) -> Grid:
    rows = []
    for name in sets:
        published = [
            table.scores.get((name, method)) if scale == 4 else None for method, _ in columns
        ]
        first = name
        for metric in scores.metrics:
            means = [scores.mean(name, method, metric) for method, _ in columns]
            spec = METRICS[metric].format
            rows.append([first, METRICS[metric].heading, *(format_value(m, spec) for m in means)])
            first = ""
            if not any(published) or metric not in ("psnr", "ssim"):
                continue
            theirs = [getattr(f, metric) if f else None for f in published]
            rows.append(["", "in the paper", *(format_value(value, spec) for value in theirs)])
            differences = [
                None if a is None or b is None or a == b == float("inf") else a - b
                for a, b in zip(means, theirs, strict=True)
            ]
            rows.append(["", "difference", *(format_value(d, spec, "+") for d in differences)])
        if any(published):
            mos = [f.mos if f else None for f in published]
            rows.append(["", "MOS in the paper", *(format_value(value, ".2f") for value in mos)])
    return Grid(table.title, ["", "", *(label for _, label in columns)], rows)


def format_value(value: float | None, spec: str, sign: str = "-") -> str:
    """Format a value for a table.

    Args:
        value: None is shown as a dash, infinity as ∞.
        spec: format specification, such as `.2f`.
        sign: `+` for a sign on positive values too; negative ones have a true minus sign.
    """
    if value is None:
        return MISSING
    if value == float("inf"):
        return "∞"
    return format(value, f"{sign}z{spec}").replace("-", "−")  # z: no negative zero
