"""Write the numbers into the README's table of generators.

    srgan evaluate --data DIR --out docs/results/evaluation
    python benchmarks/export.py --threads 2 --out docs/results/export.json
    python tools/readme_table.py

The table is between `<!-- generators -->` and `<!-- /generators -->`. Its rows and its first two
columns are written by hand; the other columns come from the released cards and from the results of
the two commands above.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from pathlib import Path

import srgan_tf.weights
from srgan_tf.evaluation.paper import TABLE_1, TABLE_2
from srgan_tf.files import write_text
from srgan_tf.markdown import markdown_table

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
BEGIN, END = "<!-- generators -->", "<!-- /generators -->"
HEADER = ["`--model`", "for", "training", "parameters", "speed"]
BY_HAND = 2
METRICS = {"psnr": ".2f", "ssim": ".3f", "vgg54": ".3f"}
REFERENCE = "srresnet-mse"
CPU = "2 threads, avx2, avx512_vnni, avx512f, avx_vnni"
"""The key in export.json."""


def read_results() -> tuple[dict, dict[str, dict], dict[str, float]]:
    """Read scores, the cards by name, and LiteRT's seconds in float32 on 2 threads by name."""
    folder = ROOT / "docs" / "results"
    results = json.loads((folder / "evaluation" / "results.json").read_text(encoding="utf-8"))
    weights = Path(srgan_tf.weights.__file__).parent
    cards = {
        name: json.loads((weights / f"{name}.json").read_text(encoding="utf-8"))
        for name in srgan_tf.weights.released()
    }
    speeds = json.loads((folder / "export.json").read_text(encoding="utf-8"))
    kind = " LiteRT float32"
    seconds = {
        name.removesuffix(kind): value
        for name, value in speeds[CPU]["seconds"].items()
        if name.endswith(kind)
    }
    return results, cards, seconds


def table(rows: list[list[str]], results: dict, cards: dict, seconds: dict) -> str:
    """Format the table.

    Args:
        rows: the cells written by hand, of which the first names the method.
        results: results.json of `srgan evaluate`; scores are those of its clean sets.
        cards: of the released generators, by name.
        seconds: by name; a generator's speed is that of the measured one with its architecture,
            relative to `REFERENCE`.

    Raises:
        ValueError: the rows are not the methods of the results.
    """
    sets = [
        name
        for name, details in results["sets"].items()
        if details.get("degradation", "clean") == "clean"
    ]
    names = [row[0].strip("`") for row in rows]
    if different := set(names) ^ (results["methods"].keys() - {"hr"}):
        raise ValueError(f"only in one of table and results: {', '.join(sorted(different))}")
    speeds = {
        network(cards[name]): f"{seconds[REFERENCE] / value:.2g}" for name, value in seconds.items()
    }
    published = {**TABLE_1.scores, **TABLE_2.scores}
    complete = []
    for name, row in zip(names, rows, strict=True):
        time, size, speed = "", "", ""
        if name in cards:
            time = training(cards[name])
            size = f"{cards[name]['parameters'] / 1e6:.2g} M"
            speed = speeds.get(network(cards[name]), "–")
        means = [results["means"][each][name] for each in sets]
        scores = [" / ".join(format(m[key], f) for key, f in METRICS.items()) for m in means]
        paper = [published.get((each, name)) for each in sets]
        paper_psnr = " / ".join(f"{score.psnr:.2f}" if score else "–" for score in paper)
        complete.append([*row, time, size, speed, *scores, paper_psnr if any(paper) else ""])
    return markdown_table([*HEADER, *sets, "the paper's PSNR"], complete)


def network(card: dict) -> tuple[str, int]:
    """Return what identifies the network of a generator: architecture and parameters."""
    return card["recipe"]["generator"]["architecture"], card["parameters"]


def training(card: dict) -> str:
    """Format a generator's training time by device, and the other generator that it started from.

    The time is that of its own phases: the card's, and its parents' of the same name. It is – if
    one of them has no sessions.
    """
    chain = [*card["parents"], card]
    phases = [phase for phase in chain if phase.get("name") == card["name"]]
    others = [phase.get("name") for phase in chain if phase.get("name") != card["name"]]
    time = "–"
    if all("sessions" in phase for phase in phases):
        seconds: Counter[str] = Counter()
        for phase in phases:
            for session in phase["sessions"]:
                device = session["device"].removeprefix("1 × ").removeprefix("NVIDIA ")
                seconds[device] += session["seconds"]
        time = " + ".join(f"{_duration(s)} on {device}" for device, s in seconds.items())
    return f"{time}, from `{others[-1]}`" if others and others[-1] else time


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds < 3570 else f"{seconds / 3600:.1f} h"


def rows_by_hand(readme: str) -> list[list[str]]:
    """Return the cells written by hand. Raises ValueError without markers."""
    lines = _split(readme)[1].strip().splitlines()[2:]
    return [[cell.strip() for cell in line.split("|")[1 : 1 + BY_HAND]] for line in lines]


def replace(readme: str, content: str) -> str:
    """Return the README with `content` between its markers. Raises ValueError without markers."""
    before, _, after = _split(readme)
    return f"{before}{BEGIN}\n{content}\n{END}{after}"


def _split(readme: str) -> tuple[str, str, str]:
    before, begin, rest = readme.partition(BEGIN)
    content, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{BEGIN} … {END} is missing")
    return before, content, after


def main() -> None:
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    readme = README.read_text(encoding="utf-8")
    try:
        write_text(README, replace(readme, table(rows_by_hand(readme), *read_results())))
    except ValueError as error:
        sys.exit(f"{README}: {error}")


if __name__ == "__main__":
    main()
