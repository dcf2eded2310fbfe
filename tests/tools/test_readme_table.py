"""The README's table of generators, against the committed results."""

import pytest
import readme_table

REPORT = {
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
LARGE, SMALL = ({"recipe": {"generator": {"blocks": blocks}}} for blocks in (16, 5))
CARDS = {
    "srresnet-mse": {**LARGE, "parameters": 1_548_547},
    "srgan-vgg54": {**LARGE, "parameters": 1_548_547},
    "small": {**SMALL, "parameters": 24_752},
    "slow": {"recipe": {"generator": {"blocks": 32}}, "parameters": 3_000_000},
}
SECONDS = {"srresnet-mse": 0.36, "small": 0.05}
README = """Before
<!-- generators -->
| `--model` | for | training | parameters |
| --- | --- | --- | --- |
| `srgan-vgg54` | photos | quick | an old number |
| bicubic |  |  | |
| `srresnet-mse` | PSNR | slow | |
<!-- /generators -->
after
"""


def test_rows_by_hand_get_sizes_speeds_and_scores():
    rows = readme_table.rows_by_hand(README)
    assert rows[0] == ["`srgan-vgg54`", "photos", "quick"] and rows[1] == ["bicubic", "", ""]
    assert readme_table.table(rows, REPORT, CARDS, SECONDS).splitlines() == [
        "| `--model` | for | training | parameters | speed | Set5 | Own | the paper's PSNR |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        "| `srgan-vgg54` | photos | quick | 1.5 M | 1 | 29.30 / 0.830 / 0.069 "
        "| 20.00 / 0.500 / 0.200 | 29.40 / – |",
        "| bicubic |  |  |  |  | 28.43 / 0.811 / 0.135 | 20.00 / 0.500 / 0.200 | 28.43 / – |",
        "| `srresnet-mse` | PSNR | slow | 1.5 M | 1 | 32.00 / 0.892 / 0.079 "
        "| 20.00 / 0.500 / 0.200 | 32.05 / – |",
    ]


@pytest.mark.parametrize(("name", "numbers"), [("small", "0.025 M | 7.2"), ("slow", "3 M | –")])
def test_a_speed_is_that_of_the_architecture(name, numbers):
    scores = {"psnr": 20.0, "ssim": 0.5, "vgg54": 0.2}
    report = {"sets": {"Own": {}}, "methods": {name: {}}, "means": {"Own": {name: scores}}}
    row = readme_table.table([[name, "", ""]], report, CARDS, SECONDS).splitlines()[-1]
    assert row == f"| {name} |  |  | {numbers} | 20.00 / 0.500 / 0.200 |  |"


def test_a_row_too_few_or_too_many_is_refused():
    with pytest.raises(ValueError, match=r"table and report: mine, srgan-vgg54$"):
        readme_table.table([["bicubic"], ["srresnet-mse"], ["mine"]], REPORT, CARDS, SECONDS)


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
