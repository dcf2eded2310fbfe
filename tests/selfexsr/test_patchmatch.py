"""The nearest-neighbour field, against geometry, interpolation and exhaustive search."""

import itertools

import numpy as np
import pytest
from scipy import ndimage

pytest.importorskip("numba")
pytest.importorskip("cv2")

from scenes import Facade

from srgan_tf.selfexsr import patchmatch
from srgan_tf.selfexsr.patchmatch import RADIUS, Field, Sources
from srgan_tf.selfexsr.planes import Planes
from srgan_tf.selfexsr.synthesis import resize

FLAT = Planes(np.array([[0.0, 0.0, 1.0]]), np.ones((1, 1, 1), np.float32))
STEP = 2 ** (1 / 3)


def problem(size=(40, 36), seed=0) -> tuple[np.ndarray, Sources]:
    """A smooth random target, and sources that are smaller copies of it."""
    noise = np.random.default_rng(seed).random(size)
    target = ndimage.gaussian_filter(noise, 1.5, mode="wrap")
    target = (target - target.min()) / np.ptp(target)
    target = target.astype(np.float32)
    smaller = [resize(target, [round(side / STEP**n) for side in size]) for n in range(1, 5)]
    return target, patchmatch.stack_sources(smaller, smaller, STEP)


def matched(target, sources, planes=FLAT, iterations=4, seed=0) -> Field:
    field = patchmatch.initial_field(*target.shape, len(planes.lines) - 1)
    patchmatch.refresh_costs(target, sources, planes, field)
    for n in range(iterations):
        patchmatch.search(target, sources, planes, field, (seed, n))
        patchmatch.propagate(target, sources, planes, field)
    return field


def inner(array: np.ndarray) -> np.ndarray:
    return array[RADIUS:-RADIUS, RADIUS:-RADIUS]


def sources_images(sources: Sources, flat: np.ndarray) -> list[np.ndarray]:
    ends = [*sources.starts[1:], len(flat)]
    return [
        flat[start:end].reshape(size)
        for start, end, size in zip(sources.starts, ends, sources.sizes, strict=True)
    ]


def written_out_cost(target, sources, y, x, candidate) -> float:
    """Compute the cost of a candidate on the fronto-parallel plane by the paper's definition."""
    source_x, source_y, *affine, _ = candidate
    matrix = np.reshape(affine, (2, 2))
    scale = np.sqrt(abs(np.linalg.det(matrix)))
    images = sources_images(sources, sources.blurred)
    level = np.clip(round(np.log(scale) / np.log(STEP)), 1, len(images))
    image = images[level - 1]
    i, j = np.meshgrid(np.arange(-2, 3), np.arange(-2, 3))
    u, v = np.tensordot(matrix, np.stack([i, j]), 1)
    rows = (source_y + v) * image.shape[0] / target.shape[0] - 0.5
    columns = (source_x + u) * image.shape[1] / target.shape[1] - 0.5
    patch = ndimage.map_coordinates(image.astype(float), [rows, columns], order=1, mode="nearest")
    error = target[y - 2 : y + 3, x - 2 : x + 3] - patch
    error -= np.clip(error.mean(), -0.25, 0.25)
    weights = np.exp(-(i**2 + j**2) / (2 * 3.0**2))
    appearance = np.sum(weights / weights.sum() * error**2)
    return appearance + 1e-3 / 3 * max(0, STEP - scale)


def test_transform_is_the_walls_own_shift():
    facade = Facade(100)
    line = facade.vanishing_line
    offsets = np.array(list(itertools.product(range(-2, 3), repeat=2)), float)
    for target, source in [((20.5, 30.5), (60.5, 70.5)), ((80.5, 45.5), (25.5, 52.5))]:
        candidate = (*source, 1.0, 0.0, 0.0, 1.0, 0)
        homography, scale = patchmatch.transform(*target, candidate, line)
        moved = [np.array(patchmatch.apply(homography, i, j)) + target for i, j in offsets]
        shift = facade.to_wall(np.array(source)) - facade.to_wall(np.array(target))
        expected = facade.to_image(facade.to_wall(offsets + target) + shift)
        np.testing.assert_allclose(moved, expected, atol=1e-9)
        h = 1e-5
        right, left, below, above = (
            np.array(patchmatch.apply(homography, *o)) for o in ((h, 0), (-h, 0), (0, h), (0, -h))
        )
        area = np.linalg.det([(right - left) / (2 * h), (below - above) / (2 * h)])
        assert scale == pytest.approx(np.sqrt(area))


def test_transform_applies_the_affine_matrix_first():
    facade = Facade(100)
    affine = (1.8, 0.2, -0.1, 1.5)
    candidate = (60.5, 70.5, *affine, 0)
    with_affine, scale = patchmatch.transform(20.5, 30.5, candidate, facade.vanishing_line)
    candidate = (60.5, 70.5, 1.0, 0.0, 0.0, 1.0, 0)
    without, unit_scale = patchmatch.transform(20.5, 30.5, candidate, facade.vanishing_line)
    for i, j in [(0, 0), (2, -1), (-2, 2)]:
        deformed = np.reshape(affine, (2, 2)) @ (i, j)
        expected = patchmatch.apply(without, *deformed)
        np.testing.assert_allclose(patchmatch.apply(with_affine, i, j), expected)
    assert scale == pytest.approx(unit_scale * np.sqrt(1.8 * 1.5 + 0.2 * 0.1))


def test_nothing_matches_across_the_horizon():
    line = np.array([1.0, 0.0, -50.0])  # upright, in the middle of the image
    _, scale = patchmatch.transform(20.5, 30.5, (70.5, 30.5, 2.0, 0.0, 0.0, 2.0, 0), line)
    assert scale < 0
    target, sources = problem()
    planes = Planes(np.array([[1.0, 0.0, -18.0]]), np.ones((1, 1, 1), np.float32))
    candidate = (25.5, 20.5, 2.0, 0.0, 0.0, 2.0, 0)
    assert patchmatch.cost(target, sources, planes, 20, 10, candidate, 0.0) == np.inf


def test_cost_equals_its_definition():
    target, sources = problem()
    rng = np.random.default_rng(1)
    for _ in range(50):
        y, x = int(rng.integers(2, 38)), int(rng.integers(2, 34))
        affine = rng.uniform(1.0, 2.5) * (np.eye(2) + rng.normal(0, 0.2, (2, 2)))
        candidate = (rng.uniform(3, 33), rng.uniform(3, 37), *affine.ravel(), 0)
        cost = patchmatch.cost(target, sources, FLAT, y, x, candidate, 0.0)
        assert cost == pytest.approx(written_out_cost(target, sources, y, x, candidate), abs=1e-7)


def test_cost_of_an_improbable_plane():
    target, sources = problem()
    probability = np.full((2, 40, 36), 0.5, np.float32)
    probability[:, :, 18:] = [[[0.9]], [[0.1]]]
    planes = Planes(np.array([[0.0, 0.0, 1.0], [0.0, 0.0, 1.0]]), probability)
    candidate = (25.0, 20.0, 2.0, 0.0, 0.0, 2.0)
    flat = patchmatch.cost(target, sources, FLAT, 10, 10, (*candidate, 0), 0.0)
    for plane, share in ((0, 0.9), (1, 0.1)):
        cost = patchmatch.cost(target, sources, planes, 10, 10, (*candidate, plane), 0.0)
        expected = -1e-3 / 3 * (np.log(0.5) + np.log(share))
        assert cost - flat == pytest.approx(expected, rel=1e-4)


def test_candidates_that_became_invalid_are_replaced():
    target, sources = problem()
    lines = np.array([[1.0, 0.0, -18.0], [0.0, 0.0, 1.0]])
    planes = Planes(lines, np.full((2, 1, 1), 0.5, np.float32))
    field = patchmatch.initial_field(*target.shape, 0)
    field.position[..., 0] = 25.5  # beyond the horizon for the left half
    patchmatch.refresh_costs(target, sources, planes, field)
    assert np.all(np.isfinite(inner(field.cost)))
    np.testing.assert_array_equal(field.plane[20, 2:16], 1)
    np.testing.assert_array_equal(field.position[20, 2:16, 0], np.arange(2, 16) + 0.5)
    np.testing.assert_array_equal(field.plane[20, 24:30], 0)


@pytest.mark.parametrize(
    "candidate",
    [(2.0, 20.5, 2.0, 2.0), (20.5, 37.6, 2.0, 2.0), (20.5, 20.5, 1.1, 1.1), (20.5, 20.5, 8.1, 8.1)],
)
def test_refuses_sources_at_the_border_and_of_wrong_scale(candidate):
    target, sources = problem()
    x, y, a, b = candidate
    cost = patchmatch.cost(target, sources, FLAT, 20, 20, (x, y, a, 0.0, 0.0, b, 0), STEP)
    assert cost == np.inf


def test_finds_as_good_patches_as_a_full_search():
    target, sources = problem((28, 26))
    field = matched(target, sources, iterations=50)
    pixels = list(itertools.product(range(3, 26, 5), range(3, 24, 5)))
    # All positions and three scales, without rotation.
    grid = list(
        itertools.product(np.arange(2.5, 24), np.arange(2.5, 26), STEP ** np.arange(1.0, 4.0))
    )
    best = np.array(
        [
            min(
                patchmatch.cost(target, sources, FLAT, y, x, (u, v, s, 0.0, 0.0, s, 0), STEP)
                for u, v, s in grid
            )
            for y, x in pixels
        ]
    )
    found = np.array([field.cost[pixel] for pixel in pixels])
    assert np.mean(found) < np.mean(best)
    assert np.mean(found <= 1.5 * best) > 0.8


def test_finds_a_planted_match():
    # The target's quarter is the source itself: enlarged twice, its pixels are at 2·(x, y).
    noise = np.random.default_rng(0).random((64, 64))
    target = ndimage.gaussian_filter(noise, 1.0).astype(np.float32)
    source = target[:32, :32].copy()
    sources = patchmatch.stack_sources([source], [source], 2.0)
    field = matched(target, sources, iterations=6)
    y, x = np.mgrid[4:28, 4:28] + 0.5
    error = field.position[4:28, 4:28] - 2 * np.stack([x, y], axis=-1)
    assert np.mean(np.hypot(error[..., 0], error[..., 1]) < 0.5) > 0.9
    affine = field.affine[4:28, 4:28].reshape(-1, 4)
    np.testing.assert_allclose(np.median(affine, axis=0), [2, 0, 0, 2], atol=0.1)


def test_costs_only_fall_and_are_those_of_the_candidates():
    target, sources = problem()
    field = patchmatch.initial_field(*target.shape, 0)
    patchmatch.refresh_costs(target, sources, FLAT, field)
    for n in range(3):
        for step in (
            lambda n=n: patchmatch.search(target, sources, FLAT, field, (0, n)),
            lambda: patchmatch.propagate(target, sources, FLAT, field),
        ):
            before = field.cost.copy()
            step()
            assert np.all(inner(field.cost) <= inner(before))
            assert np.mean(inner(field.cost)) < np.mean(inner(before))
    kept = inner(field.cost).copy()
    patchmatch.refresh_costs(target, sources, FLAT, field)
    np.testing.assert_allclose(inner(field.cost), kept, atol=1e-7)


@pytest.mark.slow
def test_the_same_for_a_seed_whatever_the_threads(monkeypatch):
    target, sources = problem()
    fields, votes = [], []
    for threads in (1, 3):
        monkeypatch.setattr(patchmatch.numba.config, "NUMBA_NUM_THREADS", threads)
        fields.append(matched(target, sources, iterations=2))
        votes.append(patchmatch.vote(target, sources, FLAT, fields[-1]))
    for one, other in zip(*fields, strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(*votes)
    different = matched(target, sources, iterations=2, seed=1)
    assert np.any(different.position != fields[0].position)


@pytest.mark.parametrize("brighter", [0.0, 0.1])
def test_voting_puts_ramps_together(brighter):
    def ramp(height, width):
        x, y = (np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height
        return (0.2 + 0.3 * x + 0.2 * y[:, None]).astype(np.float32)

    sizes = [(32, 24), (25, 19), (20, 15)]
    sharp = [ramp(*size) + np.float32(brighter) for size in sizes]
    target = ramp(40, 30)
    sources = patchmatch.stack_sources(sharp, sharp, STEP)
    voted = patchmatch.vote(target, sources, FLAT, patchmatch.initial_field(40, 30, 0))
    np.testing.assert_allclose(voted[8:-8, 8:-8], target[8:-8, 8:-8], atol=1e-6)


def test_voting_takes_the_sharp_sources():
    target, sources = problem()
    sharper = sources._replace(sharp=sources.sharp + np.float32(0.3))
    field = matched(target, sources, iterations=1)
    difference = patchmatch.vote(target, sharper, FLAT, field)
    difference -= patchmatch.vote(target, sources, FLAT, field)
    np.testing.assert_allclose(difference, 0.3, atol=1e-6)


def test_a_field_in_place_stays_in_place_when_upsampled():
    field = patchmatch.initial_field(30, 24, 1)
    field.affine[:] = 1.0, 0.0, 0.0, 1.0
    larger = patchmatch.upsample_field(field, 38, 31)
    expected = patchmatch.initial_field(38, 31, 1)
    np.testing.assert_allclose(inner(larger.position), inner(expected.position), atol=1e-4)
    np.testing.assert_array_equal(larger.plane, 1)
