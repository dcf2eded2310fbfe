"""The planes of a scene, from the vanishing points of its straight lines (Huang et al. 2014, §4).

Positions are in pixels, x before y, and the centre of the first pixel is (0.5, 0.5). Points and
lines are homogeneous.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import cv2
import numpy as np
from scipy import ndimage

_MAX_SEGMENTS = 1000
_MAX_POINTS = 3
_LONGEST = 120  # pairs of so many segments are candidates for a vanishing point
_TOLERANCE = np.deg2rad(2.0)
_MIN_SEGMENTS = 8
_MIN_SHARE = 0.1  # of the length of all segments
_GRID = 256
_FRONTO_PARALLEL = 1e-4  # a density of lines, against the product of two others
_UNIFORM = 0.1


class Planes(NamedTuple):
    """The planes of a scene; the last one is parallel to the image.

    Attributes:
        lines: float64 [P, 3], vanishing lines: l·(x, y, 1) = 0.
        probability: float32 [P, h, w], of each plane on a grid over the image; sums to 1.
    """

    lines: np.ndarray
    probability: np.ndarray

    def crop(self, window: tuple[slice, slice], size: tuple[int, int]) -> Planes:
        """Return the planes of a window (rows, columns) of an image of size (height, width)."""
        lines = self.lines.copy()
        lines[:, 2] += self.lines[:, :2] @ (window[1].start, window[0].start)
        rows, columns = (
            slice(cells * part.start // side, -(-cells * part.stop // side))
            for cells, part, side in zip(self.probability.shape[1:], window, size, strict=True)
        )
        return Planes(lines, np.ascontiguousarray(self.probability[:, rows, columns]))

    def enlarge(self, factor_y: float, factor_x: float) -> Planes:
        """Return the same planes in the pixels of an enlarged image."""
        return self._replace(lines=self.lines / (factor_x, factor_y, 1.0))


def detect_planes(image: np.ndarray) -> Planes:
    """Detect the planes spanned by pairs of vanishing points.

    A plane is probable where many segments point to both of its vanishing points.

    Args:
        image: uint8, grey [H, W] or RGB [H, W, 3].

    Returns:
        The slanted planes, and the one parallel to the image.
    """
    size = image.shape[:2]
    segments = line_segments(image)
    points, members = vanishing_points(segments, size)
    densities = [_density(segments[leading], size) for leading in members]
    lines, probability = [], []
    for i, j in itertools.combinations(range(len(points)), 2):
        line = np.cross(points[i], points[j])
        centre = line @ (size[1] / 2.0, size[0] / 2.0, 1.0)
        # With a horizon more than a hundred images away the plane is parallel to the image.
        if 100.0 * np.hypot(line[0], line[1]) * max(size) > abs(centre):
            lines.append(line / np.linalg.norm(line))
            probability.append(densities[i] * densities[j])
    lines.append(np.array([0.0, 0.0, 1.0]))
    probability.append(np.full(_grid_size(size), _FRONTO_PARALLEL))
    shares = np.stack(probability)
    shares = shares / shares.sum(axis=0) + _UNIFORM
    return Planes(np.stack(lines), (shares / shares.sum(axis=0)).astype(np.float32))


def line_segments(image: np.ndarray) -> np.ndarray:
    """Detect straight edges (LSD, Grompone von Gioi et al. 2010).

    Args:
        image: uint8, grey [H, W] or RGB [H, W, 3].

    Returns:
        float64 [N, 4]: x and y of both ends, of the longest 1000, long ones first.
    """
    if image.ndim == 3:
        image = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    # Doubling the size finds 189 instead of 19 segments in a façade of 80×80 pixels.
    doubled = cv2.resize(image, None, fx=2.0, fy=2.0, interpolation=cv2.INTER_CUBIC)
    found = cv2.createLineSegmentDetector().detect(doubled)[0]
    if found is None:
        return np.empty((0, 4))
    # OpenCV's pixel centres are integers.
    segments = (found.reshape(-1, 4).astype(np.float64) + 0.5) / 2.0
    return segments[np.argsort(-_lengths(segments), kind="stable")[:_MAX_SEGMENTS]]


def vanishing_points(
    segments: np.ndarray, size: tuple[int, int]
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Find up to three points that many segments point to, the best supported first.

    Candidates are the intersections of two long segments. Segments that deviate from a point by
    less than 2° support it, and are removed before the search for the next one.

    Args:
        segments: [N, 4], x and y of both ends, long ones first.
        size: height and width of the image.

    Returns:
        (points, members): unit vectors [3], and for each a mask of its segments, bool [N].
    """
    # Centred and of unit size, for numerical condition.
    unit, centre = max(size) / 2.0, np.array([size[1], size[0]]) / 2.0
    ends = (segments.reshape(-1, 2, 2) - centre) / unit
    lengths = _lengths(segments)
    lines = _joining(ends)
    points: list[np.ndarray] = []
    members: list[np.ndarray] = []
    free = np.ones(len(segments), bool)
    while len(points) < _MAX_POINTS and np.count_nonzero(free) >= _MIN_SEGMENTS:
        first, second = np.transpose(
            list(itertools.combinations(np.flatnonzero(free)[:_LONGEST], 2))
        )
        candidates = np.cross(lines[first], lines[second])
        candidates = candidates[np.linalg.norm(candidates, axis=1) > 1e-6]  # not the same line
        if not len(candidates):
            break
        point = candidates[np.argmax(_support(candidates, ends, lengths * free))]
        point = _refine(point, ends, lengths * free)
        leading = free & (_deviation(point, ends) < _TOLERANCE)
        share = lengths[leading].sum() / lengths.sum()
        if np.count_nonzero(leading) < _MIN_SEGMENTS or share < _MIN_SHARE:
            break
        point = np.append(unit * point[:2] + centre * point[2], point[2])
        points.append(point / np.linalg.norm(point))
        members.append(leading)
        free &= ~leading
    return points, members


def _lengths(segments: np.ndarray) -> np.ndarray:
    return np.hypot(segments[:, 2] - segments[:, 0], segments[:, 3] - segments[:, 1])


def _joining(ends: np.ndarray) -> np.ndarray:
    """Return the lines [N, 3], with unit normals, through both ends of segments [N, 2, 2]."""
    along = ends[:, 1] - ends[:, 0]
    normals = np.stack([-along[:, 1], along[:, 0]], axis=1)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return np.append(normals, -np.sum(normals * ends[:, 0], axis=1, keepdims=True), axis=1)


def _deviation(points: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Compute the angles [..., N] of segments [N, 2, 2] to points [..., 3]."""
    middle, along = ends.mean(axis=1), ends[:, 1] - ends[:, 0]
    way = points[..., None, :2] - points[..., None, 2:] * middle
    across = np.abs(along[:, 0] * way[..., 1] - along[:, 1] * way[..., 0])
    return np.arctan2(across, np.abs(np.sum(along * way, axis=-1)))


def _support(points: np.ndarray, ends: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Sum the lengths of segments that point to points [M, 3], weighted by their deviation."""
    support = np.empty(len(points))
    for first in range(0, len(points), 256):
        part = slice(first, first + 256)
        deviation = _deviation(points[part], ends) / _TOLERANCE
        support[part] = np.maximum(0.0, 1.0 - deviation**2) @ lengths
    return support


def _refine(point: np.ndarray, ends: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Refine a point [3] by least squares of the deviations of its supporting segments."""
    lines, middle = _joining(ends), ends.mean(axis=1)
    for _ in range(5):
        # The sine of a deviation is (line·point) / way.
        way = np.linalg.norm(point[:2] - point[2:] * middle, axis=1)
        weights = lengths * (_deviation(point, ends) < _TOLERANCE) / np.maximum(way, 1e-9) ** 2
        moved = np.linalg.eigh(np.einsum("n,ni,nj->ij", weights, lines, lines))[1][:, 0]
        before, after = _support(np.stack([point, moved]), ends, lengths)
        if after <= before:
            break
        point = moved
    return point


def _grid_size(size: tuple[int, int]) -> tuple[int, int]:
    factor = min(1.0, _GRID / max(size))
    return max(1, round(factor * size[0])), max(1, round(factor * size[1]))


def _density(segments: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Draw segments on a grid of at most 256×256 cells, blurred over a quarter of the image."""
    grid = np.zeros(_grid_size(size), np.uint8)
    factors = np.tile([grid.shape[1] / size[1], grid.shape[0] / size[0]], 2)
    for x1, y1, x2, y2 in np.floor(segments * factors).astype(int).tolist():
        cv2.line(grid, (x1, y1), (x2, y2), 1)
    return ndimage.gaussian_filter(grid.astype(np.float64), max(grid.shape) / 4.0, mode="nearest")
