"""Overlapping tiles of an image whose results join without seams."""

from __future__ import annotations

import math
from dataclasses import dataclass

DEFAULT_TILE = 512
# Upsampling 64 features of 128×128 pixels ×4 takes 0.25 GB.
UPSAMPLE_TILE = 128


@dataclass(frozen=True)
class Tile:
    """A tile as (rows, columns).

    Attributes:
        read: the tile in LR, including the overlap.
        crop: the part of the enlarged tile without the overlap.
        write: the position of that part in the result.
    """

    read: tuple[slice, slice]
    crop: tuple[slice, slice]
    write: tuple[slice, slice]


def cut_tiles(size: tuple[int, int], scale: int, side: int, overlap: int) -> list[Tile]:
    """Cut an image into overlapping tiles of one size, whose written parts cover it once.

    Args:
        size: (height, width) of the image.
        scale: ratio of the result's side to the image's.
        side: largest side of a tile, without the overlap.
        overlap: pixels to read on each side beyond the part written, within the image.
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
    # One length for all, as convolutions are set up anew for each shape.
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
