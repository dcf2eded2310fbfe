"""Plots: the perception-distortion plane, a bar chart per set, and scores over degradations."""

from __future__ import annotations

import itertools
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from srgan_tf.evaluation.benchmark import Scores
from srgan_tf.evaluation.degradations import CLEAN
from srgan_tf.evaluation.metrics import METRICS
from srgan_tf.files import atomic_write


def draw_plots(scores: Scores, folder: Path) -> list[Path]:
    """Write the plots as PNG files.

    Args:
        scores: of at least one image.
        folder: created if needed.

    Returns:
        The files: for each degradation the plane, if there is a perceptual metric; for each set a
        bar chart or, with several degradations, a chart over these.
    """
    colours = matplotlib.colormaps["tab20"]
    colour = {method.name: colours(i % 20) for i, method in enumerate(scores.methods)}
    files = []
    perceptual = [name for name in scores.metrics if name in ("vgg54", "lpips")]
    by_kind: dict[str, list[str]] = {}
    by_set: dict[str, list[str]] = {}
    for name, images in scores.sets.items():
        by_kind.setdefault(images[0].degradation.name, []).append(name)
        by_set.setdefault(images[0].clean_set, []).append(name)
    for kind, names in by_kind.items() if perceptual else ():
        stem = "perception-distortion" + ("" if kind == CLEAN.name else f"-{kind}")
        files.append(_save(_planes(scores, names, perceptual, colour), folder / f"{stem}.png"))
    for clean, names in by_set.items():
        if len(names) > 1:
            figure = _over_degradations(scores, names, colour)
            files.append(_save(figure, folder / f"degradations-{clean}.png"))
        else:
            files.append(_save(_bars(scores, names[0], colour), folder / f"bars-{names[0]}.png"))
    return files


def _planes(scores: Scores, names: list[str], perceptual: list[str], colour) -> Figure:
    rows, columns = len(perceptual), len(names)
    figure = Figure(figsize=(5.2 * columns, 4.6 * rows), layout="constrained")
    places = itertools.product(perceptual, names)
    panels = figure.subplots(rows, columns, squeeze=False)
    for axes, (metric, name) in zip(panels.flat, places, strict=True):
        for method in scores.methods:
            x = scores.mean(name, method.name, "psnr")
            y = scores.mean(name, method.name, metric)
            if x is None or y is None or not np.isfinite(x):  # HR's PSNR is infinite
                continue
            axes.scatter(x, y, s=45, color=colour[method.name], zorder=3)
            axes.annotate(
                method.label, (x, y), (5, 4), textcoords="offset points", fontsize=8, zorder=4
            )
        axes.set_title(name)
        axes.set_xlabel("PSNR, dB (distortion falls to the right)")
        axes.set_ylabel(f"{METRICS[metric].heading} (better below)")
        axes.margins(0.3, 0.1)
        axes.grid(alpha=0.3)
    return figure


def _bars(scores: Scores, name: str, colour) -> Figure:
    figure = Figure(figsize=(3.6 * len(scores.metrics), 4.2), layout="constrained")
    figure.suptitle(name)
    panels = figure.subplots(1, len(scores.metrics), sharey=True, squeeze=False)[0]
    for axes, metric in zip(panels, scores.metrics, strict=True):
        means = [(m, scores.mean(name, m.name, metric)) for m in scores.methods]
        shown = [(m, v) for m, v in means if v is not None and np.isfinite(v)]
        if not shown:
            continue
        shape = METRICS[metric].format
        bars = axes.barh(
            [method.label for method, _ in shown],
            [value for _, value in shown],
            color=[colour[method.name] for method, _ in shown],
        )
        axes.bar_label(bars, [format(value, shape) for _, value in shown], padding=3, fontsize=8)
        axes.set_xlim(*_limits(metric, [value for _, value in shown]))
        axes.set_title(f"{METRICS[metric].heading} ({METRICS[metric].better} is better)")
        axes.tick_params(labelsize=8)
    panels[0].invert_yaxis()
    return figure


def _limits(metric: str, values: list[float]) -> tuple[float, float]:
    """Return the limits of an axis with room for the labels at the ends of the bars."""
    lowest, highest = min(values), max(values)
    if metric in ("psnr", "ssim") and lowest < highest:  # whose differences zero would hide
        start = max(0.0, lowest - 0.3 * (highest - lowest))
        return start, highest + 0.25 * (highest - start)
    lowest, highest = min(0.0, lowest), max(0.0, highest)
    room = 0.25 * (highest - lowest) or 1.0
    return lowest - room * (lowest < 0), highest + room


def _over_degradations(scores: Scores, names: list[str], colour) -> Figure:
    first = scores.sets[names[0]][0]
    kinds = [scores.sets[name][0].degradation.name for name in names]
    columns = min(3, len(scores.metrics))
    rows = -(-len(scores.metrics) // columns)
    width = max(4.5, 0.8 * len(kinds))
    figure = Figure(figsize=(width * columns, 4.0 * rows), layout="constrained")
    figure.suptitle(first.clean_set)
    panels = figure.subplots(rows, columns, squeeze=False)
    for axes, metric in itertools.zip_longest(panels.flat, scores.metrics):
        if metric is None:
            axes.set_axis_off()
            continue
        for method in scores.methods:
            if method.name == "hr" and METRICS[metric].better in ("higher", "lower"):
                continue  # far from all others
            means = [scores.mean(name, method.name, metric) for name in names]
            if any(mean is not None and np.isfinite(mean) for mean in means):
                shown = [np.nan if mean is None else mean for mean in means]
                axes.plot(kinds, shown, "o-", color=colour[method.name], label=method.label)
        axes.set_title(f"{METRICS[metric].heading} ({METRICS[metric].better} is better)")
        axes.tick_params(labelsize=8)
        axes.tick_params("x", rotation=30)
        axes.grid(alpha=0.3)
    # HR is not in all panels.
    legends = [axes.get_legend_handles_labels() for axes in panels.flat]
    figure.legend(*max(legends, key=lambda legend: len(legend[1])), loc="outside right upper")
    return figure


def _save(figure: Figure, file: Path) -> Path:
    with atomic_write(file) as temporary:
        figure.savefig(temporary, dpi=100)
    return file
