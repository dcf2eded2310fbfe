"""Overlapping tiles of an image whose results join without a seam."""

from __future__ import annotations

import math
from dataclasses import dataclass

DEFAULT_TILE = 512
# 64 features of 128×128 pixels take 0.25 GB to be upsampled ×4.
UPSAMPLE_TILE = 128


@dataclass(frozen=True)
class Tile:
    """What to read, what of the enlarged tile is right, and where to write that."""

    read: tuple[slice, slice]
    crop: tuple[slice, slice]
    write: tuple[slice, slice]


def cut(size: tuple[int, int], scale: int, side: int, overlap: int) -> list[Tile]:
    """Tiles that cover an image of (height, width), all of them of one size.

    Args:
        side: a tile's highest side, without the overlap.
        overlap: pixels to read on each side beyond what is written, within the image.
    """
    rows, columns = (_cut_axis(length, scale, side, overlap) for length in size)
    return [
        Tile(*zip(row, column, strict=True))  # (read, crop, write), each of (row, column)
        for row in rows
        for column in columns
    ]


def _cut_axis(size: int, scale: int, side: int, overlap: int) -> list[tuple[slice, slice, slice]]:
    inner = size - 2 * overlap
    count = max(1, math.ceil(inner / side))
    # One length for all: a convolution is set up anew for each shape it meets.
    length = math.ceil(inner / count) + 2 * overlap
    cuts = []
    written = 0
    for index in range(count):
        start = min(index * (length - 2 * overlap), size - length)
        stop = size if index == count - 1 else start + length - overlap
        cuts.append(
            (
                slice(start, start + length),
                slice(scale * (written - start), scale * (stop - start)),
                slice(scale * written, scale * stop),
            )
        )
        written = stop
    return cuts
