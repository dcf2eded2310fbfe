"""The scores of Ledig et al. 2017, Tables 1 and 2 (×4)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PaperScores:
    """The paper's scores of a method on a set.

    Attributes:
        psnr: in dB, on Y without a border of 4 pixels.
        ssim: by the paper's tool (daala), 0.01 to 0.04 above the standard SSIM.
        mos: the mean opinion score, 1 to 5.
    """

    psnr: float
    ssim: float
    mos: float


@dataclass(frozen=True)
class Table:
    """A table of the paper: its columns, as (method, heading), and its sets."""

    title: str
    columns: tuple[tuple[str, str], ...]
    sets: tuple[str, ...]
    scores: dict[tuple[str, str], PaperScores]
    """Scores by (set, method)."""


def _table(title: str, columns: str, rows: dict[str, str]) -> Table:
    pairs = [tuple(column.split("=")) for column in columns.split()]
    scores = {
        (name, method): PaperScores(*map(float, cell.split("/")))
        for name, cells in rows.items()
        for (method, _), cell in zip(pairs, cells.split(), strict=True)
    }
    return Table(title, tuple((a, b) for a, b in pairs), tuple(rows), scores)


TABLE_1 = _table(
    "Table 1: content losses, with and without the adversary",
    "srresnet-mse=SRResNet-MSE srresnet-vgg22=SRResNet-VGG22 srgan-mse=SRGAN-MSE "
    "srgan-vgg22=SRGAN-VGG22 srgan-vgg54=SRGAN-VGG54",
    {
        "Set5": "32.05/0.9019/3.37 30.51/0.8803/3.46 30.64/0.8701/3.77 29.84/0.8468/3.78 "
        "29.40/0.8472/3.58",
        "Set14": "28.49/0.8184/2.98 27.19/0.7807/3.15 26.92/0.7611/3.43 26.44/0.7518/3.57 "
        "26.02/0.7397/3.72",
    },
)
TABLE_2 = _table(
    "Table 2: all methods",
    "nearest=nearest bicubic=bicubic srcnn=SRCNN selfexsr=SelfExSR drcn=DRCN espcn=ESPCN "
    "srresnet-mse=SRResNet srgan-vgg54=SRGAN hr=HR",
    {
        "Set5": "26.26/0.7552/1.28 28.43/0.8211/1.97 30.07/0.8627/2.57 30.33/0.872/2.65 "
        "31.52/0.8938/3.26 30.76/0.8784/2.89 32.05/0.9019/3.37 29.40/0.8472/3.58 inf/1/4.32",
        "Set14": "24.64/0.7100/1.20 25.99/0.7486/1.80 27.18/0.7861/2.26 27.45/0.7972/2.34 "
        "28.02/0.8074/2.84 27.66/0.8004/2.52 28.49/0.8184/2.98 26.02/0.7397/3.72 inf/1/4.32",
        "BSD100": "25.02/0.6606/1.11 25.94/0.6935/1.47 26.68/0.7291/1.87 26.83/0.7387/1.89 "
        "27.21/0.7493/2.12 27.02/0.7442/2.01 27.58/0.7620/2.29 25.16/0.6688/3.56 inf/1/4.46",
    },
)
