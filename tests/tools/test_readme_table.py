"""The README's table of generators, against the committed results."""

import pytest
import readme_table

RESULTS = {
    "sets": {"Set5": {}, "Own": {}, "Own-jpeg75": {"degradation": "jpeg75"}},
    "methods": {"bicubic": {}, "srresnet-mse": {}, "srgan-vgg54": {}, "hr": {}},
    "means": {
        "Set5": {
            "bicubic": {"psnr": 28.426, "ssim": 0.8113, "vgg54": 0.135},
            "srresnet-mse": {"psnr": 32.0, "ssim": 0.8919, "vgg54": 0.0791},
            "srgan-vgg54": {"psnr": 29.3, "ssim": 0.83, "vgg54": 0.069},
        },
        "Own": {
            name: {"psnr": 20.0, "ssim": 0.5, "vgg54": 0.2}
            for name in ("bicubic", "srresnet-mse", "srgan-vgg54")
        },
    },
}


def phase(name, *sessions):
    return {"name": name, "sessions": [{"device": d, "seconds": s} for d, s in sessions]}


def card(name, blocks, parameters, parents=(), sessions=()):
    generator = {"architecture": "srresnet", "blocks": blocks}
    size = {"parameters": parameters, "recipe": {"generator": generator}}
    return {**phase(name, *sessions), **size, "parents": parents}


CPU, H200 = "1 × CPU", "1 × NVIDIA H200"
MSE = phase("srresnet-mse", (CPU, 6140))
CARDS = {
    "srresnet-mse": card("srresnet-mse", 16, 1_548_547, [MSE], [(CPU, 3000), (CPU, 1000)]),
    "srgan-vgg54": card("srgan-vgg54", 16, 1_548_547, [MSE], [(H200, 133)]),
    "small": card("small", 5, 24_752, [{"sha256": "0"}, {"name": "small"}], [(CPU, 743)]),
    "slow": card("slow", 32, 3_000_000, [phase("slow", (H200, 96))], [(CPU, 3569)]),
}
SECONDS = {"srresnet-mse": 0.36, "small": 0.05}
README = """Before
<!-- generators -->
| `--model` | for | training |
| --- | --- | --- |
| `srgan-vgg54` | photos | an old number |
| bicubic |  | |
| `srresnet-mse` | PSNR | |
<!-- /generators -->
after
"""


def test_rows_by_hand_get_times_sizes_speeds_and_scores():
    rows = readme_table.rows_by_hand(README)
    assert rows[0] == ["`srgan-vgg54`", "photos"] and rows[1] == ["bicubic", ""]
    assert readme_table.table(rows, RESULTS, CARDS, SECONDS).splitlines() == [
        "| `--model` | for | training | parameters | speed | Set5 | Own | the paper's PSNR |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        "| `srgan-vgg54` | photos | 2 min on H200, from `srresnet-mse` | 1.5 M | 1 "
        "| 29.30 / 0.830 / 0.069 | 20.00 / 0.500 / 0.200 | 29.40 / – |",
        "| bicubic |  |  |  |  | 28.43 / 0.811 / 0.135 | 20.00 / 0.500 / 0.200 | 28.43 / – |",
        "| `srresnet-mse` | PSNR | 2.8 h on CPU | 1.5 M | 1 | 32.00 / 0.892 / 0.079 "
        "| 20.00 / 0.500 / 0.200 | 32.05 / – |",
    ]


@pytest.mark.parametrize(
    ("name", "numbers"),
    [("small", "– | 0.025 M | 7.2"), ("slow", "2 min on H200 + 59 min on CPU | 3 M | –")],
)
def test_a_speed_is_that_of_the_architecture_and_a_time_that_of_all_phases(name, numbers):
    scores = {"psnr": 20.0, "ssim": 0.5, "vgg54": 0.2}
    results = {"sets": {"Own": {}}, "methods": {name: {}}, "means": {"Own": {name: scores}}}
    row = readme_table.table([[name, ""]], results, CARDS, SECONDS).splitlines()[-1]
    assert row == f"| {name} |  | {numbers} | 20.00 / 0.500 / 0.200 |  |"


def test_a_row_too_few_or_too_many_is_refused():
    with pytest.raises(ValueError, match=r"table and results: mine, srgan-vgg54$"):
        readme_table.table([["bicubic"], ["srresnet-mse"], ["mine"]], RESULTS, CARDS, SECONDS)


def test_only_the_text_between_the_markers_is_replaced():
    new = readme_table.replace(README, "new")
    assert new == "Before\n<!-- generators -->\nnew\n<!-- /generators -->\nafter\n"
    assert readme_table.replace(new, "new") == new
    with pytest.raises(ValueError, match="<!-- /generators --> is missing"):
        readme_table.replace("a", "new")


def test_the_readme_has_the_committed_numbers():
    readme = readme_table.README.read_text(encoding="utf-8")
    rows = readme_table.rows_by_hand(readme)
    table = readme_table.table(rows, *readme_table.read_results())
    assert readme_table.replace(readme, table) == readme
