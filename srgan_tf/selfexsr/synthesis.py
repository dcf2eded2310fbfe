"""Coarse-to-fine synthesis of one channel (Huang et al. 2015, §3.5 and §4)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
from scipy import ndimage

from srgan_tf.resize import bicubic_matrix
from srgan_tf.selfexsr.patchmatch import (
    initial_field,
    propagate,
    refresh_costs,
    search,
    stack_sources,
    upsample_field,
    vote,
)
from srgan_tf.selfexsr.planes import Planes

_COARSEST = 1 / 8  # of the input
_MIN_SIDE = 8
_MAX_SOURCES = 9
_FIRST_ITERATIONS, _FEWER_ITERATIONS, _MIN_ITERATIONS = 12, 3, 3
_BACK_PROJECTIONS = 20


def schedule(height: int, width: int, scale: int) -> list[tuple[tuple[int, int], int]]:
    """Return the sizes of the coarse-to-fine steps and their numbers of iterations."""
    count = round(3 * math.log2(scale))
    return [
        (
            (round(height * scale ** (n / count)), round(width * scale ** (n / count))),
            max(_FIRST_ITERATIONS - (n - 1) * _FEWER_ITERATIONS, _MIN_ITERATIONS),
        )
        for n in range(1, count + 1)
    ]


def enlarge(
    channel: np.ndarray,
    planes: Planes,
    scale: int,
    seed: int,
    tick: Callable[[int], object] = lambda pixels: None,
) -> np.ndarray:
    """Enlarge one channel.

    Args:
        channel: float32 [H, W] in [0, 1].
        planes: of the scene.
        scale: an integer of at least 2.
        seed: of the random search.
        tick: called after each iteration with the number of its pixels.

    Returns:
        float32 [scale·H, scale·W] in [0, 1].
    """
    height, width = channel.shape
    levels = schedule(height, width, scale)
    step = scale ** (1 / len(levels))  # 2^(1/3) for powers of 2

    sharp = [channel]
    for n in range(1, round(-math.log(_COARSEST) / math.log(step)) + 2):
        size = round(height / step**n), round(width / step**n)
        if min(size) < _MIN_SIDE:
            break
        sharp.append(resize(channel, size))
    blurred = [resize(b, a.shape) for a, b in itertools.pairwise(sharp)]

    field = initial_field(*levels[0][0], len(planes.lines) - 1)
    for level, (size, iterations) in enumerate(levels):
        target = resize(sharp[0], size)
        most = min(_MAX_SOURCES, len(blurred))
        sources = stack_sources(blurred[:most], sharp[:most], step)
        planes_here = planes.enlarge(size[0] / height, size[1] / width)
        field = upsample_field(field, *size)
        refresh_costs(target, sources, planes_here, field)
        for n in range(iterations):
            search(target, sources, planes_here, field, (seed, level, n))
            propagate(target, sources, planes_here, field)
            tick(size[0] * size[1])
        voted = vote(target, sources, planes_here, field)
        sharp.insert(0, back_project(voted, channel))
        blurred.insert(0, resize(resize(sharp[0], sharp[1].shape), size))
    return sharp[0]


def back_project(image: np.ndarray, lr: np.ndarray, times: int = _BACK_PROJECTIONS) -> np.ndarray:
    """Adapt an image so that its bicubic downscaling is `lr` (Irani and Peleg 1991).

    Args:
        image: float32 [H, W] in [0, 1].
        lr: float32 [h, w] in [0, 1].
        times: number of iterations.

    Returns:
        float32 [H, W] in [0, 1].
    """
    # The square of a Gaussian of σ 1, 5×5, as published.
    kernel = np.exp(-(np.arange(-2, 3, dtype=np.float32) ** 2))
    kernel /= kernel.sum()
    for _ in range(times):
        difference = resize(lr - resize(image, lr.shape), image.shape)
        for axis in range(2):
            difference = ndimage.convolve1d(difference, kernel, axis, mode="nearest")
        image = np.clip(image + difference, 0.0, 1.0)
    return image


def resize(image: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Resize float32 [H, W] to [*size] as MATLAB's bicubic `imresize` does, without rounding."""
    rows, columns = (bicubic_matrix(*sides) for sides in zip(image.shape, size, strict=True))
    return (columns @ (rows @ image).T).T
