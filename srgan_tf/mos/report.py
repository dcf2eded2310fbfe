"""A study's report: scores, significance, the paper's tables, a plot and all ratings."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from srgan_tf.errors import UserError
from srgan_tf.evaluation.methods import LABELS
from srgan_tf.evaluation.paper import TABLE_1, TABLE_2, Table
from srgan_tf.files import atomic_write, make_writable_folder, write_json, write_text
from srgan_tf.markdown import markdown_table
from srgan_tf.mos import codebook
from srgan_tf.mos.analysis import (
    SIGNIFICANT,
    Comparison,
    Consistency,
    Opinion,
    Rating,
    compare,
    consistency,
    opinion,
)
from srgan_tf.mos.design import SCORE_LABELS, Design
from srgan_tf.mos.study import Study

Opinions = Mapping[str, Mapping[str, Opinion]]


@dataclass(frozen=True)
class Results:
    """A study's results.

    Attributes:
        opinions: by set and method, in the design's order.
        comparisons: of the methods, by set.
        raters: the consistency of each rater.
        excluded: numbers of the excluded raters.
    """

    opinions: Opinions
    comparisons: Mapping[str, Sequence[Comparison]]
    raters: Sequence[Consistency]
    excluded: Sequence[int]


def write_report(study: Study, folder: Path, excluded: Collection[int] = ()) -> Results:
    """Write a study's report and ratings.

    The files are report.md, results.json, distribution.png and .svg, ratings.csv and .json, and
    codebook.md.

    Args:
        study: with at least one rating.
        folder: created if needed; files of these names in it are replaced.
        excluded: numbers of raters to exclude, except from ratings.csv and ratings.json.

    Raises:
        UserError: there are no ratings, no such rater, or the folder can't be written to.
    """
    database = study.open_database()
    try:
        rated = database.ratings()
    finally:
        database.close()
    rows = codebook.records(study.design, rated)
    unknown = set(excluded) - {row["rater"] for row in rows}
    if unknown:
        raise UserError(f"--exclude: there are no ratings by a rater {min(unknown)}")
    counted = [row for row in rows if row["rater"] not in excluded]
    ratings = [
        Rating(
            row["rater"],
            row["set"],
            row["image"],
            row["method"],
            row["score"],
            bool(row["repeat"]),
        )
        for row in counted
    ]
    if not ratings:
        raise UserError(f"{study.folder}: no ratings yet; collect some with srgan mos serve")
    make_writable_folder(folder)
    results = analyse(study.design, ratings, excluded)
    write_text(folder / "report.md", to_markdown(study.design, results, _dates(counted)))
    write_json(folder / "results.json", _as_json(results), indent=1)
    write_text(folder / "ratings.csv", codebook.to_csv(rows))
    write_text(folder / "ratings.json", codebook.to_json(study.design, rows))
    write_text(folder / "codebook.md", codebook.to_markdown())
    figure = plot(results.opinions)
    for suffix in ("png", "svg"):
        with atomic_write(folder / f"distribution.{suffix}") as temporary:
            figure.savefig(temporary, dpi=160, metadata={"Date": None} if suffix == "svg" else None)
    return results


def analyse(design: Design, ratings: Sequence[Rating], excluded: Collection[int] = ()) -> Results:
    """Compute all numbers of a report."""
    first = [rating for rating in ratings if not rating.repeat]
    planned = dict.fromkeys((version.set, version.method) for version in design.versions)
    opinions: dict[str, dict[str, Opinion]] = {}
    for name, method in planned:
        chosen = [rating for rating in first if (rating.set, rating.method) == (name, method)]
        if chosen:
            opinions.setdefault(name, {})[method] = opinion(chosen)
    comparisons = {
        name: compare([rating for rating in first if rating.set == name], list(methods))
        for name, methods in opinions.items()
    }
    return Results(opinions, comparisons, consistency(ratings), sorted(excluded))


def to_markdown(design: Design, results: Results, dates: str) -> str:
    """Format the report as Markdown."""
    opinions = results.opinions
    count = sum(o.count for methods in opinions.values() for o in methods.values())
    raters = f"{len(results.raters)} rater{'s' * (len(results.raters) != 1)}"
    parts = [
        f"# {design.title}: mean opinion scores",
        f"{count:,} ratings by {raters}, {dates}, repeats not counted. "
        "Scale: " + ", ".join(f"{number} {word}" for number, word in SCORE_LABELS.items()) + ".",
    ]
    if results.excluded:
        parts.append(f"Excluded: rater {', '.join(map(str, results.excluded))}.")
    tables = [text for table in (TABLE_1, TABLE_2) if (text := _paper_comparison(table, opinions))]
    if design.scale == 4 and tables:
        parts += [
            "## Comparison with the paper",
            "Mean opinion scores; the paper's are from 26 raters (Ledig et al. 2017).",
            *tables,
        ]
    parts += ["## Scores", "![Distribution of scores](distribution.png)"]
    for name, methods in opinions.items():
        parts += [f"### {name}", _score_table(methods)]
    parts += [
        "Intervals are Student's at 95 %, over raters.",
        "## Differences",
        "Mean score of the row minus that of the column. \\* p < "
        f"{SIGNIFICANT} in a two-sided Wilcoxon signed-rank test over raters, corrected for the "
        "number of pairs by Holm's method; all p-values are in results.json.",
    ]
    if len(results.raters) < 6:
        parts.append("With fewer than six raters no difference can be significant.")
    for name, comparisons in results.comparisons.items():
        parts += [f"### {name}", _difference_table(list(opinions[name]), comparisons)]
    parts += ["## Raters", _repeat_summary(results.raters), _rater_table(results.raters)]
    return "\n\n".join(part for part in parts if part) + "\n"


def plot(opinions: Opinions) -> Figure:
    """Plot the paper's Figure 5: each method's distribution of scores, with the mean in red."""
    most = max(map(len, opinions.values()))
    figure = Figure(figsize=(2.2 + 0.65 * most, 3.4 * len(opinions)), layout="constrained")
    panels = figure.subplots(len(opinions), 1, squeeze=False)[:, 0]
    shares = {
        name: np.array([o.distribution for o in methods.values()], float).T
        for name, methods in opinions.items()
    }
    shares = {name: counts / counts.sum(axis=0) for name, counts in shares.items()}
    largest = max(float(share.max()) for share in shares.values())
    for panel, (name, methods) in zip(panels, opinions.items(), strict=True):
        mesh = panel.pcolormesh(
            np.arange(len(methods) + 1) - 0.5,
            np.arange(6) + 0.5,
            shares[name],
            cmap="Blues",
            vmin=0,
            vmax=largest,
            edgecolors="white",
            linewidth=1.5,
        )
        means = [o.mean for o in methods.values()]
        low = [o.mean - (o.mean if o.low is None else o.low) for o in methods.values()]
        high = [(o.mean if o.high is None else o.high) - o.mean for o in methods.values()]
        panel.errorbar(
            range(len(means)),
            means,
            [low, high],
            fmt="D",
            color="#d62728",
            mec="white",
            ms=7,
            capsize=4,
        )
        panel.set_title(name, fontsize=11)
        panel.set_xticks(
            range(len(means)), [_label(m) for m in methods], rotation=30, ha="right", fontsize=9
        )
        panel.set_yticks(list(SCORE_LABELS), [f"{n} {word}" for n, word in SCORE_LABELS.items()])
        panel.tick_params(length=0)
        panel.spines[:].set_visible(False)
    bar = figure.colorbar(mesh, ax=panels, fraction=0.04, pad=0.02, aspect=30, format="{x:.0%}")
    bar.set_label("share of ratings")
    bar.outline.set_visible(False)
    return figure


def _paper_comparison(table: Table, opinions: Opinions) -> str:
    """Format a table of the paper with our scores; empty if none of its methods was rated."""
    methods = [method for method, _ in table.columns]
    rows = []
    for name in table.sets:
        here = {method: o.mean for method, o in opinions.get(name, {}).items()}
        paper = {method: table.scores[name, method].mos for method in methods}
        if not here.keys() & paper.keys():
            continue
        rows += [
            [f"**{name}**", *(f"**{here[m]:.2f}**" if m in here else "–" for m in methods)],
            ["the paper", *(f"{paper[m]:.2f}" for m in methods)],
            ["difference", *(_signed(here[m] - paper[m]) if m in here else "–" for m in methods)],
        ]
    return (
        markdown_table([table.title, *(label for _, label in table.columns)], rows) if rows else ""
    )


def _score_table(opinions: Mapping[str, Opinion]) -> str:
    header = ["method", "mean", "95 % interval", "ratings", "raters", *map(str, SCORE_LABELS)]
    return markdown_table(
        header,
        [
            [
                _label(method),
                f"**{o.mean:.2f}**",
                "–" if o.low is None else f"{o.low:.2f} to {o.high:.2f}",
                str(o.count),
                str(o.raters),
                *map(str, o.distribution),
            ]
            for method, o in opinions.items()
        ],
    )


def _difference_table(methods: Sequence[str], comparisons: Sequence[Comparison]) -> str:
    cells: dict[tuple[str, str], str] = {}
    for c in comparisons:
        star = "\\*" if c.p_corrected < SIGNIFICANT else ""
        for pair, difference in (
            ((c.first, c.second), c.difference),
            ((c.second, c.first), -c.difference),
        ):
            cells[pair] = _signed(difference) + star if c.raters else "–"
    rows = [[_label(row), *(cells.get((row, column), "") for column in methods)] for row in methods]
    return markdown_table(["", *map(_label, methods)], rows)


def _repeat_summary(raters: Sequence[Consistency]) -> str:
    repeats = sum(rater.repeats for rater in raters)
    if not repeats:
        return ""
    equal = sum((r.repeat_equal or 0.0) * r.repeats for r in raters) / repeats
    difference = sum((r.repeat_difference or 0.0) * r.repeats for r in raters) / repeats
    return (
        f"{repeats} versions were rated twice by the same rater, {equal:.0%} of them with the same "
        f"score; the mean absolute difference is {difference:.2f}."
    )


def _rater_table(raters: Sequence[Consistency]) -> str:
    def shown(value: float | None, form: str) -> str:
        return "–" if value is None else format(value, form)

    return markdown_table(
        ["rater", "ratings", "mean", "correlation", "repeats", "equal", "difference", "flags"],
        [
            [
                str(r.rater),
                str(r.count),
                f"{r.mean:.2f}",
                shown(r.correlation, ".2f"),
                str(r.repeats),
                shown(r.repeat_equal, ".0%"),
                shown(r.repeat_difference, ".2f"),
                "; ".join(r.flags),
            ]
            for r in raters
        ],
    )


def _as_json(results: Results) -> dict[str, Any]:
    def finite(values: dict[str, Any]) -> dict[str, Any]:
        return {key: None if value != value else value for key, value in values.items()}

    return {
        "opinions": {
            name: {method: asdict(o) for method, o in methods.items()}
            for name, methods in results.opinions.items()
        },
        "comparisons": {
            name: [finite(asdict(comparison)) for comparison in comparisons]
            for name, comparisons in results.comparisons.items()
        },
        "raters": [asdict(rater) for rater in results.raters],
        "excluded": list(results.excluded),
        "paper": {
            name: {
                method: table.scores[name, method].mos
                for table in (TABLE_1, TABLE_2)
                for method, _ in table.columns
                if (name, method) in table.scores
            }
            for name in TABLE_2.sets
        },
    }


def _dates(rows: Sequence[dict[str, Any]]) -> str:
    days = sorted(row["rated"][:10] for row in rows)
    return days[0] if days[0] == days[-1] else f"{days[0]} to {days[-1]}"


def _signed(value: float) -> str:
    return f"{value:+.2f}" if abs(value) >= 0.005 else "0.00"


def _label(method: str) -> str:
    return LABELS.get(method, method)
