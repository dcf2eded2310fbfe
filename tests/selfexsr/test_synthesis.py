"""Back-projection, and the complete method on a rendered façade."""

import itertools

import numpy as np
import pytest

pytest.importorskip("numba")
pytest.importorskip("cv2")

from scenes import Facade

from srgan_tf.selfexsr.planes import Planes, detect_planes
from srgan_tf.selfexsr.synthesis import back_project, enlarge, resize, schedule


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(-10 * np.log10(np.mean((a[4:-4, 4:-4] - b[4:-4, 4:-4]) ** 2)))


@pytest.mark.parametrize("size", [(40, 30), (50, 38), (160, 120)])
def test_back_projection_converges(size):
    rng = np.random.default_rng(0)
    lr = resize(rng.uniform(0.2, 0.8, (10, 8)).astype(np.float32), (40, 30)).clip(0.1, 0.9)
    wrong = (resize(lr, size) + rng.normal(0, 0.05, size)).astype(np.float32).clip(0, 1)
    errors = [
        np.sqrt(np.mean((resize(back_project(wrong, lr, times), lr.shape) - lr) ** 2))
        for times in (0, 1, 2, 5, 10, 20, 60)
    ]
    assert all(after < before for before, after in itertools.pairwise(errors))
    assert errors[-2] < 0.15 * errors[0]


def test_back_projection_does_not_change_a_solution():
    hr = np.random.default_rng(0).random((40, 40)).astype(np.float32)
    np.testing.assert_allclose(back_project(hr, resize(hr, (10, 10))), hr, atol=1e-6)


def test_schedule_is_the_published_one():
    sizes, iterations = zip(*schedule(100, 50, 4), strict=True)
    assert sizes == ((126, 63), (159, 79), (200, 100), (252, 126), (317, 159), (400, 200))
    assert iterations == (12, 9, 6, 3, 3, 3)
    assert [size[0] for size, _ in schedule(100, 50, 3)] == [125, 155, 193, 241, 300]


def test_a_constant_stays_constant():
    lr = np.full((32, 40), 0.3, np.float32)
    sr = enlarge(lr, detect_planes(np.full((32, 40), 77, np.uint8)), 2, seed=0)
    np.testing.assert_allclose(sr, np.full((64, 80), 0.3), atol=1e-5)


@pytest.mark.slow
def test_sharpens_a_facade_and_more_so_by_its_plane():
    hr = Facade(192).render().astype(np.float32) / 255
    lr = np.rint(255 * resize(hr, (48, 48)).clip(0, 1)).astype(np.uint8)
    bicubic = resize(lr.astype(np.float32) / 255, hr.shape).clip(0, 1)
    planes = detect_planes(lr)
    assert len(planes.lines) > 1
    flat = Planes(np.array([[0.0, 0.0, 1.0]]), np.ones((1, 1, 1), np.float32))
    with_planes, without = (
        psnr(enlarge(lr.astype(np.float32) / 255, guide, 4, seed=0), hr) for guide in (planes, flat)
    )
    assert with_planes > psnr(bicubic, hr) + 1.5
    assert with_planes > without + 0.2
