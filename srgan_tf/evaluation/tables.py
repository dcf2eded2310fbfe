"""The paper's two tables, with our figures, the paper's, and the difference."""

from __future__ import annotations

import html
from collections.abc import Iterable
from dataclasses import dataclass

from srgan_tf.evaluation.benchmark import Scores
from srgan_tf.evaluation.measures import MEASURES
from srgan_tf.evaluation.paper import TABLE_1, TABLE_2, Table

NONE = "–"


@dataclass(frozen=True)
class Grid:
    """A table of text; rows whose first cell is empty belong to the row above."""

    title: str
    header: list[str]
    rows: list[list[str]]

    def to_markdown(self) -> str:
        """GitHub's Markdown, without the title."""
        lines = [self.header, ["---", "---", *["--:"] * (len(self.header) - 2)], *self.rows]
        return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)

    def to_html(self) -> str:
        """A `<table>` with the title as its caption."""

        def row(cells: Iterable[str], tag: str) -> str:
            return "<tr>" + "".join(f"<{tag}>{html.escape(c)}</{tag}>" for c in cells) + "</tr>"

        body = "".join(row(cells, "td") for cells in self.rows)
        return (
            f"<table><caption>{html.escape(self.title)}</caption>"
            f"<thead>{row(self.header, 'th')}</thead><tbody>{body}</tbody></table>"
        )


def paper_tables(scores: Scores, scale: int) -> list[Grid]:
    """Table 1 and table 2 as in the paper, table 2 with further methods and sets at its end.

    A table none of whose methods was evaluated is left out, and so are the paper's figures,
    which are for ×4, at another scale.
    """
    here = {method.name for method in scores.methods}
    of_paper = {name for table in (TABLE_1, TABLE_2) for name, _ in table.columns}
    more = [(m.name, m.label) for m in scores.methods if m.name not in of_paper]
    grids = []
    if here & {name for name, _ in TABLE_1.columns}:
        sets = [name for name in scores.sets if name in TABLE_1.sets]
        grids.append(_grid(TABLE_1, sets, TABLE_1.columns, scores, scale))
    grids.append(_grid(TABLE_2, list(scores.sets), (*TABLE_2.columns, *more), scores, scale))
    return [grid for grid in grids if grid.rows]


def _grid(table: Table, sets, columns, scores: Scores, scale: int) -> Grid:
    rows = []
    for name in sets:
        figures = [
            table.figures.get((name, method)) if scale == 4 else None for method, _ in columns
        ]
        first = name
        for measure in scores.measures:
            means = [scores.mean(name, method, measure) for method, _ in columns]
            shape = MEASURES[measure].format
            rows.append([first, MEASURES[measure].heading, *(text(m, shape) for m in means)])
            first = ""
            if not any(figures) or measure not in ("psnr", "ssim"):
                continue
            theirs = [getattr(f, measure) if f else None for f in figures]
            rows.append(["", "in the paper", *(text(value, shape) for value in theirs)])
            differences = [
                None if a is None or b is None or a == b == float("inf") else a - b
                for a, b in zip(means, theirs, strict=True)
            ]
            rows.append(["", "difference", *(text(d, shape, "+") for d in differences)])
        if any(figures):
            mos = [f.mos if f else None for f in figures]
            rows.append(["", "MOS in the paper", *(text(value, ".2f") for value in mos)])
    return Grid(table.title, ["", "", *(label for _, label in columns)], rows)


def text(value: float | None, shape: str, sign: str = "-") -> str:
    """A value as it is printed: a dash for none, ∞, and the true minus sign; `+` signs all."""
    if value is None:
        return NONE
    if value == float("inf"):
        return "∞"
    return format(value, f"{sign}z{shape}").replace("-", "−")  # z: no negative zero
