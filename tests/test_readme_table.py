"""The README's table of results, against the committed report."""

import importlib.util
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
_SPEC = importlib.util.spec_from_file_location("readme_table", ROOT / "tools" / "readme_table.py")
readme_table = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(readme_table)

RESULTS = {
    "scale": 4,
    "measures": {"psnr": "", "ssim": ""},
    "sets": {"Set5": {}, "Own": {}, "Own-jpeg75": {"degradation": "jpeg75"}},
    "methods": {"bicubic": {"label": "bicubic"}, "mine": {"label": "mine"}, "hr": {"label": "HR"}},
    "means": {
        "Set5": {
            "bicubic": {"psnr": 28.426, "ssim": 0.8113},
            "mine": {"psnr": None, "ssim": None},
        },
        "Own": {"bicubic": {"psnr": 20.0, "ssim": 0.5}, "mine": {"psnr": 21.0, "ssim": 0.6}},
    },
}


def test_a_row_a_method_with_the_papers_psnr():
    assert readme_table.table(RESULTS).splitlines() == [
        "| ×4, Y channel, PSNR dB / SSIM | Set5 | Own | the paper's PSNR |",
        "| --- | --- | --- | --- |",
        "| bicubic | 28.43 / 0.8113 | 20.00 / 0.5000 | 28.43 / – |",
        "| mine | – | 21.00 / 0.6000 | – |",
    ]


def test_only_what_stands_between_the_markers_is_replaced():
    readme = "a\n<!-- results -->\nold\n<!-- /results -->\nb\n"
    new = readme_table.replace(readme, "new")
    assert new == "a\n<!-- results -->\nnew\n<!-- /results -->\nb\n"
    assert readme_table.replace(new, "new") == new
    with pytest.raises(ValueError, match="<!-- /results --> is missing"):
        readme_table.replace("a", "new")


def test_the_readme_has_the_reports_table():
    readme = readme_table.README.read_text(encoding="utf-8")
    if readme_table.BEGIN not in readme or not readme_table.RESULTS.exists():
        pytest.skip("no table in the README, or no report")
    results = json.loads(readme_table.RESULTS.read_text(encoding="utf-8"))
    assert readme_table.replace(readme, readme_table.table(results)) == readme
