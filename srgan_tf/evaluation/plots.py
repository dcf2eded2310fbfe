"""The perception-distortion plane, and a bar chart a set."""

from __future__ import annotations

import itertools
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from srgan_tf.evaluation.benchmark import Scores
from srgan_tf.evaluation.measures import MEASURES
from srgan_tf.files import written_whole


def draw_plots(scores: Scores, folder: Path) -> list[Path]:
    """Writes the plots as PNG files.

    Args:
        scores: of at least one image.
        folder: which is made.

    Returns:
        The files: the plane, if a perceptual distance was measured, and a bar chart a set.
    """
    colours = matplotlib.colormaps["tab20"]
    colour = {method.name: colours(i % 20) for i, method in enumerate(scores.methods)}
    files = []
    perceptual = [name for name in scores.measures if name in ("vgg54", "lpips")]
    if perceptual:
        files.append(
            _save(_planes(scores, perceptual, colour), folder / "perception-distortion.png")
        )
    for name in scores.sets:
        files.append(_save(_bars(scores, name, colour), folder / f"bars-{name}.png"))
    return files


def _planes(scores: Scores, perceptual: list[str], colour) -> Figure:
    rows, columns = len(perceptual), len(scores.sets)
    figure = Figure(figsize=(5.2 * columns, 4.6 * rows), layout="constrained")
    places = itertools.product(perceptual, scores.sets)
    panels = figure.subplots(rows, columns, squeeze=False)
    for axes, (measure, name) in zip(panels.flat, places, strict=True):
        for method in scores.methods:
            x = scores.mean(name, method.name, "psnr")
            y = scores.mean(name, method.name, measure)
            if x is None or y is None or not np.isfinite(x):  # HR itself lies at infinity
                continue
            axes.scatter(x, y, s=45, color=colour[method.name], zorder=3)
            axes.annotate(
                method.label, (x, y), (5, 4), textcoords="offset points", fontsize=8, zorder=4
            )
        axes.set_title(name)
        axes.set_xlabel("PSNR, dB (distortion falls to the right)")
        axes.set_ylabel(f"{MEASURES[measure].heading} (better below)")
        axes.margins(0.3, 0.1)
        axes.grid(alpha=0.3)
    return figure


def _bars(scores: Scores, name: str, colour) -> Figure:
    figure = Figure(figsize=(3.6 * len(scores.measures), 4.2), layout="constrained")
    figure.suptitle(name)
    panels = figure.subplots(1, len(scores.measures), sharey=True, squeeze=False)[0]
    for axes, measure in zip(panels, scores.measures, strict=True):
        means = [(m, scores.mean(name, m.name, measure)) for m in scores.methods]
        shown = [(m, v) for m, v in means if v is not None and np.isfinite(v)]
        if not shown:
            continue
        shape = MEASURES[measure].format
        bars = axes.barh(
            [method.label for method, _ in shown],
            [value for _, value in shown],
            color=[colour[method.name] for method, _ in shown],
        )
        axes.bar_label(bars, [format(value, shape) for _, value in shown], padding=3, fontsize=8)
        lowest, highest = (pick(value for _, value in shown) for pick in (min, max))
        # From zero, differences of PSNR and SSIM can't be seen.
        start = max(0.0, lowest - 0.3 * (highest - lowest)) if measure in ("psnr", "ssim") else 0.0
        axes.set_xlim(start, highest + 0.25 * (highest - start) + 1e-6)
        axes.set_title(f"{MEASURES[measure].heading} ({MEASURES[measure].better} is better)")
        axes.tick_params(labelsize=8)
    panels[0].invert_yaxis()
    return figure


def _save(figure: Figure, file: Path) -> Path:
    with written_whole(file) as temporary:
        figure.savefig(temporary, dpi=100)
    return file
