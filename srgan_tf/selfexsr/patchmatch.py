"""PatchMatch over transformed patches (Huang et al. 2015, §3.2 and §3.4; Barnes et al. 2010).

Every target pixel has the best candidate so far for its 5×5 patch: a source position, an affine
transformation and a plane. A candidate represents the homography that the plane induces between the
two positions, after the transformation. Positions are in target pixels, x before y, and the centre
of the first pixel is (0.5, 0.5).

Results depend on the seed, not on the number of threads: random numbers are a hash of the pixel and
the iteration, and candidates propagate along rows, then along columns, independently of each other.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numba
import numpy as np

from srgan_tf.selfexsr.planes import Planes

RADIUS = 2
_MAX_SCALE = 8.0
_MAX_BIAS = 0.25
_SCALE_WEIGHT = _PLANE_WEIGHT = 1e-3 / 3  # published for the sum of three channels' errors
_FALLOFF_SIGMA = 3.0
_SAME = 0.01  # of a pixel

_falloff = np.exp(-0.5 * (np.arange(-RADIUS, RADIUS + 1) / _FALLOFF_SIGMA) ** 2)
_WEIGHTS = np.outer(_falloff, _falloff) / np.sum(_falloff) ** 2

_jit = numba.njit(nogil=True, cache=True, error_model="numpy")


class Sources(NamedTuple):
    """The images to take patches from, concatenated from the largest to the smallest.

    Attributes:
        blurred: float32 [N], as blurred as the target, for matching.
        sharp: float32 [N], the replacement pixels.
        starts: int64 [L], index of each image's first pixel in `blurred` and `sharp`.
        sizes: int64 [L, 2], each image's height and width.
        step: size ratio of successive images, and of the target to the first.
    """

    blurred: np.ndarray
    sharp: np.ndarray
    starts: np.ndarray
    sizes: np.ndarray
    step: float


class Field(NamedTuple):
    """The nearest-neighbour field: the candidate of each target pixel.

    The outermost `RADIUS` pixels, whose patches would exceed the image, have none.

    Attributes:
        position: float32 [H, W, 2], the source's centre.
        affine: float32 [H, W, 4], the transformation, row by row.
        plane: uint8 [H, W].
        cost: float32 [H, W].
    """

    position: np.ndarray
    affine: np.ndarray
    plane: np.ndarray
    cost: np.ndarray


def stack_sources(blurred: list[np.ndarray], sharp: list[np.ndarray], step: float) -> Sources:
    """Concatenate pairs of images [h, w], from the largest to the smallest."""
    sizes = np.array([image.shape for image in sharp], np.int64)
    starts = np.concatenate([[0], np.cumsum(sizes.prod(axis=1))[:-1]])
    flat_blurred, flat_sharp = (
        np.concatenate([image.ravel() for image in images]).astype(np.float32)
        for images in (blurred, sharp)
    )
    return Sources(flat_blurred, flat_sharp, starts, sizes, step)


def initial_field(height: int, width: int, fronto_parallel: int) -> Field:
    """Create a field in which each pixel's source is its own position, magnified by 2."""
    field = Field(
        np.empty((height, width, 2), np.float32),
        np.empty((height, width, 4), np.float32),
        np.full((height, width), fronto_parallel, np.uint8),
        np.full((height, width), np.inf, np.float32),
    )
    field.position[..., 0] = np.arange(width) + 0.5
    field.position[..., 1] = np.arange(height)[:, None] + 0.5
    field.affine[:] = 2.0, 0.0, 0.0, 2.0
    return field


def upsample_field(field: Field, height: int, width: int) -> Field:
    """Enlarge a field to a larger target, moving candidates with their pixels."""
    old_height, old_width = field.plane.shape
    old_x, moved_x = _old_pixels(width, old_width)
    old_y, moved_y = (column[:, None] for column in _old_pixels(height, old_height))
    affine = field.affine[old_y, old_x]
    position = field.position[old_y, old_x]
    position *= np.float32(width / old_width), np.float32(height / old_height)
    position[..., 0] += affine[..., 0] * moved_x + affine[..., 1] * moved_y
    position[..., 1] += affine[..., 2] * moved_x + affine[..., 3] * moved_y
    margin = np.float32(RADIUS + 0.5)
    np.clip(position, margin, np.array([width, height], np.float32) - margin, out=position)
    cost = np.full((height, width), np.inf, np.float32)
    return Field(position, affine, field.plane[old_y, old_x], cost)


def refresh_costs(target: np.ndarray, sources: Sources, planes: Planes, field: Field) -> None:
    """Compute the cost of each pixel's candidate, replacing candidates that became invalid."""
    _in_bands(_refresh_costs, _inner(target.shape[0]), target, sources, planes, field)


def search(
    target: np.ndarray, sources: Sources, planes: Planes, field: Field, key: tuple[int, ...]
) -> None:
    """Try random changes of decreasing extent to each candidate, and keep those of lower cost.

    Args:
        target: float32 [H, W] in [0, 1].
        sources: of patches.
        planes: of the scene.
        field: changed in place.
        key: seed of the random numbers.
    """
    state = np.uint64(0)
    for number in key:
        state = np.uint64(_mix(state ^ np.uint64(number % 2**64)))
    _in_bands(_search, _inner(target.shape[0]), target, sources, planes, field, state)


def propagate(target: np.ndarray, sources: Sources, planes: Planes, field: Field) -> None:
    """Try the candidates of each pixel's neighbours: left, above, right and below."""
    height, width = target.shape
    for backwards in (False, True):
        for vertical, lines in ((False, height), (True, width)):
            _in_bands(
                _propagate, _inner(lines), target, sources, planes, field, vertical, backwards
            )


def vote(target: np.ndarray, sources: Sources, planes: Planes, field: Field) -> np.ndarray:
    """Average overlapping sharp source patches, weighted by a Gaussian, to an image [H, W]."""
    result = np.empty_like(target)
    _in_bands(_vote, range(target.shape[0]), target, sources, planes, field, result)
    return result


def _old_pixels(size: int, old_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return each pixel's old pixel along an enlarged axis, and the offset from its centre."""
    centers = np.arange(size, dtype=np.float32) + np.float32(0.5)
    ratio = np.float32(size / old_size)
    old = (centers / ratio).astype(np.int64).clip(RADIUS, old_size - RADIUS - 1)
    return old, centers - (old + np.float32(0.5)) * ratio


def _inner(size: int) -> range:
    return range(RADIUS, size - RADIUS)


def _in_bands(function: Callable, lines: range, *arguments) -> None:
    """Call function(first, stop, *arguments) for bands of lines, in threads."""
    threads = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]
    bounds = np.linspace(lines.start, lines.stop, min(4 * threads, len(lines)) + 1).astype(int)
    with ThreadPoolExecutor(threads) as pool:
        bands = [
            pool.submit(function, first, stop, *arguments)
            for first, stop in itertools.pairwise(bounds)
        ]
        for band in bands:
            band.result()


@_jit
def _mix(number):
    """Apply SplitMix64's finalizer, a bijection of uint64: any change flips half the bits."""
    number += np.uint64(0x9E3779B97F4A7C15)
    number = (number ^ (number >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    number = (number ^ (number >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return number ^ (number >> np.uint64(31))


@_jit
def _uniform(number):
    """Convert the upper bits of a uint64 to a float in [-0.5, 0.5)."""
    return np.float64(number >> np.uint64(11)) * 2.0**-53 - 0.5


@_jit
def transform(x, y, candidate, line):
    """Compute the homography from the pixels of a target patch to their sources.

    In the rectified plane it is a shift (Huang et al. 2014, eq. 8 and 9): for the
    vanishing line l, m = (l1, l2)/(l·target) and s = source - target,

        offset -> target + (matrix·offset + s) / (1 + tilt·offset).

    Args:
        x, y: the target patch's centre.
        candidate: (x and y of the source's centre, four elements of the affine matrix that is
            applied first to offsets from the target's centre, the plane's index).
        line: [3], the plane's vanishing line.

    Returns:
        ((m00, m01, m10, m11, s_x, s_y, tilt_x, tilt_y), scale). The scale is the square root of
        the ratio of the source's area to the target's; negative if the horizon is between them.
    """
    source_x, source_y, a00, a01, a10, a11, _ = candidate
    at_target = line[0] * x + line[1] * y + line[2]
    m_x, m_y = line[0] / at_target, line[1] / at_target
    s_x, s_y = source_x - x, source_y - y
    ms = m_x * s_x + m_y * s_y
    ma_x, ma_y = m_x * a00 + m_y * a10, m_x * a01 + m_y * a11
    depth = 1.0 + ms
    homography = (
        depth * a00 + s_x * ma_x,
        depth * a01 + s_x * ma_y,
        depth * a10 + s_y * ma_x,
        depth * a11 + s_y * ma_y,
        s_x,
        s_y,
        -ms * ma_x,
        -ms * ma_y,
    )
    return homography, depth * math.sqrt(abs(depth * (a00 * a11 - a01 * a10)))


@_jit
def apply(homography, i, j):
    """Map an offset (i, j) from the target's centre to its source's offset from that centre."""
    m00, m01, m10, m11, s_x, s_y, tilt_x, tilt_y = homography
    nearness = 1.0 / (1.0 + tilt_x * i + tilt_y * j)
    return (m00 * i + m01 * j + s_x) * nearness, (m10 * i + m11 * j + s_y) * nearness


@_jit
def cost(target, sources, planes, y, x, candidate, min_scale):
    """Compute a candidate's cost for the patch around target[y, x]: appearance, scale and plane.

    It is infinite for a source nearer to the border than `RADIUS`, of a scale below `min_scale`
    or above 8, or at the horizon.
    """
    height, width = target.shape
    source_x, source_y, plane = candidate[0], candidate[1], candidate[6]
    margin = RADIUS + 0.5
    if not (margin <= source_x <= width - margin and margin <= source_y <= height - margin):
        return np.inf
    homography, scale = transform(x + 0.5, y + 0.5, candidate, planes.lines[plane])
    tilt = abs(homography[6]) + abs(homography[7])
    if not (min_scale <= scale <= _MAX_SCALE and RADIUS * tilt < 0.5):
        return np.inf
    appearance, _ = _appearance(target, sources, y, x, homography, scale)
    improbable = _surprise(planes, plane, (x + 0.5) / width, (y + 0.5) / height)
    improbable += _surprise(planes, plane, source_x / width, source_y / height)
    too_small = max(0.0, sources.step - scale)
    return appearance + _SCALE_WEIGHT * too_small + _PLANE_WEIGHT * improbable


@_jit
def _appearance(target, sources, y, x, homography, scale):
    """Compute a patch's weighted squared error after correcting its mean, and the correction."""
    level = _source_level(sources, scale)
    total = weighted = squares = 0.0
    for j in range(-RADIUS, RADIUS + 1):
        for i in range(-RADIUS, RADIUS + 1):
            source = _sample(sources, sources.blurred, level, target.shape, y, x, homography, i, j)
            error = target[y + j, x + i] - source
            weight = _WEIGHTS[j + RADIUS, i + RADIUS]
            total += error
            weighted += weight * error
            squares += weight * error * error
    bias = min(max(total / _WEIGHTS.size, -_MAX_BIAS), _MAX_BIAS)
    return squares - 2.0 * bias * weighted + bias * bias, bias


@_jit
def _source_level(sources, scale):
    """Return the index of the source image whose pixels have about the target's size."""
    level = int(np.round(math.log(scale) / math.log(sources.step))) - 1
    return min(max(level, 0), len(sources.starts) - 1)


@_jit
def _sample(sources, pixels, level, size, y, x, homography, i, j):
    """Interpolate the source of a patch's pixel bilinearly, repeating borders."""
    height, width = sources.sizes[level, 0], sources.sizes[level, 1]
    u, v = apply(homography, i, j)
    u = min(max((x + 0.5 + u) * (width / size[1]) - 0.5, 0.0), width - 1.0)
    v = min(max((y + 0.5 + v) * (height / size[0]) - 0.5, 0.0), height - 1.0)
    left, top = min(int(u), width - 2), min(int(v), height - 2)
    u, v = u - left, v - top
    upper = sources.starts[level] + top * width + left
    lower = upper + width
    above = pixels[upper] + u * (pixels[upper + 1] - pixels[upper])
    below = pixels[lower] + u * (pixels[lower + 1] - pixels[lower])
    return above + v * (below - above)


@_jit
def _surprise(planes, plane, x, y):
    """Compute -log of a plane's probability at x and y, as shares of the image's sides."""
    _, rows, columns = planes.probability.shape
    return -math.log(planes.probability[plane, int(y * rows), int(x * columns)])


@_jit
def _load(field, y, x):
    position, affine = field.position[y, x], field.affine[y, x]
    return (
        np.float64(position[0]), np.float64(position[1]), np.float64(affine[0]),
        np.float64(affine[1]), np.float64(affine[2]), np.float64(affine[3]),
        np.int64(field.plane[y, x]),
    )  # fmt: skip


@_jit
def _keep_better(target, sources, planes, field, y, x, candidate, min_scale):
    found = cost(target, sources, planes, y, x, candidate, min_scale)
    if found < field.cost[y, x]:
        field.position[y, x, 0], field.position[y, x, 1] = candidate[0], candidate[1]
        field.affine[y, x, 0], field.affine[y, x, 1] = candidate[2], candidate[3]
        field.affine[y, x, 2], field.affine[y, x, 3] = candidate[4], candidate[5]
        field.plane[y, x] = candidate[6]
        field.cost[y, x] = found


@_jit
def _refresh_costs(first, stop, target, sources, planes, field):
    for y in range(first, stop):
        for x in range(RADIUS, target.shape[1] - RADIUS):
            field.cost[y, x] = np.inf
            _keep_better(target, sources, planes, field, y, x, _load(field, y, x), 0.0)
            if field.cost[y, x] == np.inf:  # beyond the horizon, or too large
                last = len(planes.lines) - 1
                in_place = (x + 0.5, y + 0.5, 2.0, 0.0, 0.0, 2.0, last)
                _keep_better(target, sources, planes, field, y, x, in_place, 0.0)


@_jit
def _search(first, stop, target, sources, planes, field, key):
    height, width = target.shape
    for y in range(first, stop):
        for x in range(RADIUS, width - RADIUS):
            random = _mix(key ^ np.uint64(y * width + x))
            radius, narrowing = max(height, width) / 8.0, 2.0
            while radius > 0.5:
                source_x, source_y, a00, a01, a10, a11, _ = _load(field, y, x)
                random = _mix(random)
                source_x += 2.0 * radius * _uniform(random)
                random = _mix(random)
                source_y += 2.0 * radius * _uniform(random)
                random = _mix(random)
                zoom = 1.0 + _uniform(random) / narrowing
                random = _mix(random)
                angle = math.pi / 4.0 * _uniform(random) / narrowing
                random = _mix(random)
                shear_x = 0.05 * _uniform(random) / narrowing
                random = _mix(random)
                shear_y = 0.05 * _uniform(random) / narrowing
                random = _mix(random)
                plane = _draw_plane(planes, x / width, y / height, _uniform(random) + 0.5)
                cosine, sine = zoom * math.cos(angle), zoom * math.sin(angle)
                d00, d01 = cosine - sine * shear_y, cosine * shear_x - sine
                d10, d11 = sine + cosine * shear_y, sine * shear_x + cosine
                candidate = (
                    source_x, source_y, d00 * a00 + d01 * a10, d00 * a01 + d01 * a11,
                    d10 * a00 + d11 * a10, d10 * a01 + d11 * a11, plane,
                )  # fmt: skip
                _keep_better(target, sources, planes, field, y, x, candidate, sources.step)
                radius /= 2.0
                narrowing += 1.0


@_jit
def _draw_plane(planes, x, y, random):
    count, rows, columns = planes.probability.shape
    for plane in range(count - 1):
        random -= planes.probability[plane, int(y * rows), int(x * columns)]
        if random < 0.0:
            return plane
    return count - 1


@_jit
def _propagate(first, stop, target, sources, planes, field, vertical, backwards):
    length = target.shape[0 if vertical else 1] - 2 * RADIUS
    step = -1 if backwards else 1
    i, j = (0, step) if vertical else (step, 0)
    for along in range(1, length):
        here = RADIUS + (length - 1 - along if backwards else along)
        for line in range(first, stop):
            y, x = (here, line) if vertical else (line, here)
            theirs = _load(field, y - j, x - i)
            plane = theirs[6]
            homography, _ = transform(x - i + 0.5, y - j + 0.5, theirs, planes.lines[plane])
            u, v = apply(homography, i, j)
            candidate = (x - i + 0.5 + u, y - j + 0.5 + v, *theirs[2:])
            mine = _load(field, y, x)
            # Skip neighbours with the same candidate.
            if (
                plane != mine[6]
                or abs(candidate[0] - mine[0]) > _SAME
                or abs(candidate[1] - mine[1]) > _SAME
            ):
                _keep_better(target, sources, planes, field, y, x, candidate, 0.0)


@_jit
def _vote(first, stop, target, sources, planes, field, result):
    height, width = target.shape
    total = np.zeros((stop - first, width))
    weights = np.zeros((stop - first, width))
    for y in range(max(first - RADIUS, RADIUS), min(stop + RADIUS, height - RADIUS)):
        for x in range(RADIUS, width - RADIUS):
            candidate = _load(field, y, x)
            line = planes.lines[candidate[6]]
            homography, scale = transform(x + 0.5, y + 0.5, candidate, line)
            _, bias = _appearance(target, sources, y, x, homography, scale)
            level = _source_level(sources, scale)
            for j in range(max(-RADIUS, first - y), min(RADIUS + 1, stop - y)):
                for i in range(-RADIUS, RADIUS + 1):
                    source = _sample(
                        sources, sources.sharp, level, target.shape, y, x, homography, i, j
                    )
                    weight = _WEIGHTS[j + RADIUS, i + RADIUS]
                    total[y + j - first, x + i] += weight * (source + bias)
                    weights[y + j - first, x + i] += weight
    result[first:stop] = total / weights
