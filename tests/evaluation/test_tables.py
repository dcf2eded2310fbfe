"""Tables in the paper's layout, with its scores and our differences."""

from pathlib import Path

import pytest

from srgan_tf.evaluation.benchmark import Score, Scores
from srgan_tf.evaluation.degradations import CLEAN, parse_degradation
from srgan_tf.evaluation.methods import Bicubic, HighResolution
from srgan_tf.evaluation.paper import TABLE_1, TABLE_2
from srgan_tf.evaluation.sets import BenchmarkImage
from srgan_tf.evaluation.tables import format_value, paper_tables, tables


def made(methods, sets=("Set5",), psnr=(28.0, 29.0), kinds=(CLEAN,)):
    images = {
        label: [BenchmarkImage(label, i, Path(i), None, 4, kind) for i in ("a", "b")]
        for name in sets
        for kind in kinds
        for label in [name if kind == CLEAN else f"{name}-{kind.name}"]
    }
    scores = Scores(images, methods, ["psnr", "ssim"])
    for group in images.values():
        for image, value in zip(group, psnr, strict=True):
            for method in methods:
                value = float("inf") if method.name == "hr" else value
                values = {"psnr": value, "ssim": 0.8}
                scores.entries.append(
                    Score(image.set, image.name, method.name, values, Path("x.png"))
                )
    return scores


def rows(grid):
    return {(cells[0], cells[1]): cells[2:] for cells in grid.rows}


def test_the_papers_scores_are_as_printed():
    assert TABLE_2.scores["Set14", "drcn"].psnr == 28.02
    assert TABLE_2.scores["BSD100", "hr"].mos == 4.46
    assert TABLE_2.scores["Set5", "espcn"].ssim == 0.8784
    assert TABLE_1.scores["Set14", "srgan-vgg22"].mos == 3.57
    assert TABLE_1.sets == ("Set5", "Set14")
    for method in ("srresnet-mse", "srgan-vgg54"):
        for name in TABLE_1.sets:
            assert TABLE_1.scores[name, method] == TABLE_2.scores[name, method]


def test_our_score_is_followed_by_the_papers_and_the_difference():
    (grid,) = paper_tables(made([Bicubic("bicubic"), HighResolution("hr")]), 4)
    assert grid.title.startswith("Table 2")
    column = grid.header[2:].index("bicubic")
    assert [row[2 + column] for row in grid.rows] == [
        *("28.50", "28.43", "+0.07"),
        *("0.8000", "0.8211", "−0.0211"),
        "1.97",
    ]
    hr = grid.header[2:].index("HR")
    assert [row[2 + hr] for row in grid.rows][:3] == ["∞", "∞", "–"]
    missing = grid.header[2:].index("SRGAN")
    assert [row[2 + missing] for row in grid.rows][:3] == ["–", "29.40", "–"]


def test_other_methods_and_sets_come_last_and_without_the_papers_scores():
    (grid,) = paper_tables(made([Bicubic("mine")], ("Set5", "Own")), 4)
    assert grid.header[-1] == "mine"
    assert rows(grid)["Own", "PSNR, dB"][-1] == "28.50"
    assert [cells[1] for cells in grid.rows[-2:]] == ["PSNR, dB", "SSIM"]


def test_degraded_sets_have_a_table_of_their_own_and_one_of_means():
    kinds = (CLEAN, parse_degradation("jpeg75"))
    scores = made([Bicubic("bicubic")], ("Set5", "Own"), kinds=kinds)
    for index, score in enumerate(scores.entries):
        score.values["psnr"] = 20.0 + index
    _, degraded, means = tables(scores, 4)
    assert degraded.header == ["", "", "bicubic"]
    assert degraded.rows == [
        *(["Set5-jpeg75", "PSNR, dB", "22.50"], ["", "SSIM", "0.8000"]),
        *(["Own-jpeg75", "PSNR, dB", "26.50"], ["", "SSIM", "0.8000"]),
    ]
    assert rows(means)["clean", "PSNR, dB"] == ["22.50"]  # of 20, 21, 24 and 25
    assert rows(means)["jpeg75", "PSNR, dB"] == ["24.50"]
    scores.entries.pop()
    assert rows(tables(scores, 4)[2])["jpeg75", "PSNR, dB"] == ["–"]
    assert len(tables(made([Bicubic("mine")]), 4)) == 1
    (alone,) = tables(made([Bicubic("mine")], kinds=kinds[1:]), 4)
    assert alone.title == "Degraded LR"


def test_at_another_scale_the_papers_scores_are_omitted():
    (grid,) = paper_tables(made([Bicubic("bicubic")]), 2)
    assert [cells[1] for cells in grid.rows] == ["PSNR, dB", "SSIM"]


def test_a_mean_over_an_incomplete_set_is_a_dash():
    scores = made([Bicubic("bicubic")])
    scores.entries.pop()
    assert scores.mean("Set5", "bicubic", "psnr") is None
    (grid,) = paper_tables(scores, 4)
    assert grid.rows[0][3] == "–"


def test_markdown_and_html_hold_every_cell():
    (grid,) = paper_tables(made([Bicubic("<mine>")]), 4)
    lines = grid.to_markdown().splitlines()
    assert len(lines) == 2 + len(grid.rows)
    assert {line.count("|") for line in lines} == {len(grid.header) + 1}
    assert "<th>&lt;mine&gt;</th>" in grid.to_html()


@pytest.mark.parametrize(
    ("value", "spec", "sign", "expected"),
    [
        (None, ".2f", "-", "–"),
        (float("inf"), ".2f", "-", "∞"),
        (-0.001, ".2f", "+", "+0.00"),
        (-1.5, ".2f", "-", "−1.50"),
    ],
)
def test_printed_values(value, spec, sign, expected):
    assert format_value(value, spec, sign) == expected
