"""An evaluation's report: results.json, report.md, plots, contact sheets and report.html."""

from __future__ import annotations

import base64
import datetime
import html
import io
import json
import platform
import re
import string
import urllib.parse
from pathlib import Path

from PIL import Image

from srgan_tf.errors import ImageError
from srgan_tf.evaluation.benchmark import Scores, installed_versions, read_result
from srgan_tf.evaluation.degradations import CLEAN
from srgan_tf.evaluation.metrics import METRICS
from srgan_tf.evaluation.pictures import contact_sheet
from srgan_tf.evaluation.plots import draw_plots
from srgan_tf.evaluation.sets import BenchmarkImage
from srgan_tf.evaluation.tables import Grid, tables
from srgan_tf.files import escape_non_utf8, write_json, write_text
from srgan_tf.images import write_image

_TEMPLATE = Path(__file__).with_name("report.html")
_JPEG_QUALITY = 90


def write_report(
    scores: Scores,
    folder: Path,
    scale: int,
    images: list[BenchmarkImage],
    notes: list[str],
    command: str,
) -> list[str]:
    """Write a report.

    Args:
        scores: of at least one image.
        folder: created if needed; an existing report is replaced.
        scale: of the evaluation.
        images: for the contact sheets and the slider.
        notes: sentences to print below the tables.
        command: the command line.

    Returns:
        Messages on images that could not be shown.
    """
    shown, sheets, failures = [], [], []
    for image in images:
        try:
            sheet = contact_sheet(scores, image)
        except ImageError as error:
            failures.append(f"{image.full_name}: not shown: {error}")
            continue
        shown.append(image)
        sheets.append(folder / "images" / image.set / f"{image.name}.jpg")
        write_image(sheets[-1], sheet)
    results = _results(scores, scale, command)
    results["failures"] += failures
    write_json(folder / "results.json", results, indent=1)
    grids = tables(scores, scale)
    plots = draw_plots(scores, folder / "plots")
    notes = [_protocol(scores, scale), *notes]
    if scores.failures:
        notes.append(
            f"A mean is – if an image has no score. Missing are {len(scores.failures)}, such as "
            f"{escape_non_utf8(scores.failures[0])}. `failures` in results.json names all."
        )
    command = escape_non_utf8(command)
    markdown = _markdown(folder, grids, plots, sheets, notes, command)
    write_text(folder / "report.md", markdown + "\n")
    write_text(folder / "report.html", _html(scores, grids, plots, shown, notes, command) + "\n")
    return failures


def _results(scores: Scores, scale: int, command: str) -> dict:
    return {
        "command": command,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "versions": {"python": platform.python_version(), **installed_versions()},
        "scale": scale,
        "metrics": {name: METRICS[name].meaning for name in scores.metrics},
        "sets": {
            name: {
                "images": len(images),
                "lr": "made" if images[0].lr_file is None else "given",
                "degradation": images[0].degradation.name,
            }
            for name, images in scores.sets.items()
        },
        "methods": {m.name: {"label": m.label, **m.details} for m in scores.methods},
        "means": {
            name: {
                method.name: {
                    metric: _number(scores.mean(name, method.name, metric))
                    for metric in scores.metrics
                }
                for method in scores.methods
            }
            for name in scores.sets
        },
        "images": [
            {
                "set": score.set,
                "image": score.image,
                "method": score.method,
                **{name: _number(value) for name, value in score.values.items()},
            }
            for score in scores.entries
        ],
        "failures": list(scores.failures),
    }


def _number(value: float | None) -> float | str | None:
    # JSON has no infinity.
    return "inf" if value == float("inf") else value and round(value, 6)


def _protocol(scores: Scores, scale: int) -> str:
    meanings = "; ".join(
        f"{METRICS[name].heading.removesuffix(', dB')}: {METRICS[name].meaning}"
        for name in scores.metrics
    )
    kinds = dict.fromkeys(images[0].degradation for images in scores.sets.values())
    degraded = ", ".join(kind.name for kind in kinds if kind != CLEAN)
    return (
        f"×{scale}; the border is {scale} pixels wide; LR by MATLAB's bicubic imresize"
        f"{f', degraded as named ({degraded})' if degraded else ''}. {meanings}. "
        "The paper's SSIM is by another tool and 0.01 to 0.04 above the standard one: compare PSNR "
        "with the paper, and SSIM with later work."
    )


def _markdown(folder: Path, grids: list[Grid], plots, sheets, notes, command: str) -> str:
    parts = ["# Evaluation", f"```sh\n{command}\n```"]
    for grid in grids:
        parts += [f"## {grid.title}", grid.to_markdown()]
    parts += [*notes, "[results.json](results.json) has the scores of every image."]
    parts.append("## Plots")
    parts += [_link(folder, file) for file in plots]
    if sheets:
        parts.append("## Images")
        parts.append(
            "Crops are enlarged three times by nearest neighbour. Below each are PSNR in dB / SSIM "
            "of the entire image, then the other metrics in the tables' order."
        )
        parts += [_link(folder, file) for file in sheets]
    return "\n\n".join(parts)


def _link(folder: Path, file: Path) -> str:
    path = file.relative_to(folder).as_posix()
    name = re.sub(r"([\[\]\\])", r"\\\1", path)
    return f"![{name}]({urllib.parse.quote(path)})"


def _html(scores: Scores, grids: list[Grid], plots, images, notes, command: str) -> str:
    pictures = {}
    for image in images:
        found = [(m, scores.at(image.set, image.name, m.name)) for m in scores.methods]
        pictures[image.full_name] = {
            method.label: _data_url(Image.fromarray(read_result(score, image, method)), "JPEG")
            for method, score in found
            if score is not None
        }
    template = string.Template(_TEMPLATE.read_text(encoding="utf-8"))
    return template.substitute(
        command=html.escape(command),
        tables="\n".join(f'<div class="wide">{grid.to_html()}</div>' for grid in grids),
        notes="\n".join(f"<p>{html.escape(note)}</p>" for note in notes),
        plots="\n".join(
            f'<img src="{_data_url(Image.open(file), "PNG")}" alt="{html.escape(file.stem)}">'
            for file in plots
        ),
        pictures=json.dumps(pictures).replace("</", "<\\/"),
    )


def _data_url(image: Image.Image, kind: str) -> str:
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, kind, quality=_JPEG_QUALITY, subsampling=0)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"
