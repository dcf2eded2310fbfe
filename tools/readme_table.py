"""Write the README's table of results from the committed report.

    srgan evaluate --data DIR --out docs/results/evaluation
    python tools/readme_table.py

The table replaces the text between `<!-- results -->` and `<!-- /results -->`. With --check nothing
is written, and the exit code is 1 if the README's table is outdated.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from srgan_tf.evaluation.paper import TABLE_1, TABLE_2
from srgan_tf.files import write_text
from srgan_tf.markdown import markdown_table

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "results" / "evaluation" / "results.json"
README = ROOT / "README.md"
BEGIN, END = "<!-- results -->", "<!-- /results -->"


def table(results: dict) -> str:
    """Format a row per method with its scores on each clean set, and the paper's PSNR."""
    sets = [
        name
        for name, details in results["sets"].items()
        if details.get("degradation", "clean") == "clean"
    ]
    measured = [name for name in ("psnr", "ssim", "vgg54") if name in results["measures"]]
    titles = {"psnr": "PSNR dB", "ssim": "SSIM", "vgg54": "VGG54 distance"}
    title = f"×{results['scale']}, Y channel, {' / '.join(titles[name] for name in measured)}"
    rows = []
    for method, details in results["methods"].items():
        if method == "hr":
            continue
        row = [details["label"]]
        for name in sets:
            means = results["means"][name][method]
            shapes = {"psnr": ".2f", "ssim": ".4f", "vgg54": ".3f"}
            complete = all(means[m] is not None for m in measured)
            values = (format(means[m], shapes[m]) for m in measured) if complete else ("–",)
            row.append(" / ".join(values))
        published = {**TABLE_1.scores, **TABLE_2.scores}
        paper = [published.get((name, method)) for name in sets]
        known = any(paper)
        row.append(" / ".join(f"{f.psnr:.2f}" if f else "–" for f in paper) if known else "–")
        rows.append(row)
    return markdown_table([title, *sets, "the paper's PSNR"], rows)


def replace(readme: str, content: str) -> str:
    """Return the README with `content` between its markers. Raises ValueError without markers."""
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{BEGIN} … {END} is missing")
    return f"{before}{BEGIN}\n{content}\n{END}{after}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="only compare")
    arguments = parser.parse_args()
    old = README.read_text(encoding="utf-8")
    try:
        new = replace(old, table(json.loads(RESULTS.read_text(encoding="utf-8"))))
    except ValueError as error:
        sys.exit(f"{README}: {error}")
    if arguments.check:
        sys.exit(f"{README}: outdated; run tools/readme_table.py" if new != old else 0)
    write_text(README, new)


if __name__ == "__main__":
    main()
