"""Vanishing points and planes of scenes whose geometry is known."""

import numpy as np
import pytest

pytest.importorskip("cv2")

from scenes import Facade

from srgan_tf.selfexsr.planes import Planes, detect_planes, line_segments, vanishing_points


def angle(a: np.ndarray, b: np.ndarray) -> float:
    """Return the angle in degrees between two lines or directions, given as vectors."""
    cosine = abs(a @ b) / (np.linalg.norm(a) * np.linalg.norm(b))
    return float(np.rad2deg(np.arccos(min(cosine, 1.0))))


def view_angle(point: np.ndarray, expected: np.ndarray, facade: Facade) -> float:
    """Return the angle in degrees between the directions in which a camera sees two points."""
    centre = facade.size / 2
    to_ray = np.array([[1, 0, -centre], [0, 1, -centre], [0, 0, facade.focal_length]])
    return angle(to_ray @ point, to_ray @ expected)


def test_segments_lie_on_the_edges_of_a_square():
    image = np.zeros((60, 60), np.uint8)
    image[10:50, 20:40] = 200
    segments = line_segments(image)
    assert len(segments) == 4
    upright = np.abs(segments[:, 0] - segments[:, 2]) < 1
    np.testing.assert_allclose(np.sort(segments[upright][:, 0]), [20, 40], atol=0.5)
    np.testing.assert_allclose(np.sort(segments[~upright][:, 1]), [10, 50], atol=0.5)
    lengths = np.hypot(segments[:, 2] - segments[:, 0], segments[:, 3] - segments[:, 1])
    np.testing.assert_allclose(lengths, [40, 40, 20, 20], atol=3)


def test_vanishing_points_of_drawn_segments():
    rng = np.random.default_rng(0)
    expected = [np.array([150.0, 40.0, 1.0]), np.array([30.0, -300.0, 1.0])]
    segments = []
    for point, count in zip(expected, (30, 20), strict=True):
        middle = rng.uniform(0, 100, (count, 2))
        way = point[:2] - middle
        half = 8 * way / np.linalg.norm(way, axis=1, keepdims=True)
        segments.append(np.append(middle - half, middle + half, axis=1))
    noise = rng.uniform(0, 100, (15, 2))
    turn = rng.uniform(0, np.pi, 15)
    half = 5 * np.stack([np.cos(turn), np.sin(turn)], axis=1)
    segments.append(np.append(noise - half, noise + half, axis=1))
    points, members = vanishing_points(np.concatenate(segments), (100, 100))
    assert len(points) == 2
    for point, wanted in zip(points, expected, strict=True):
        np.testing.assert_allclose(point[:2] / point[2], wanted[:2], rtol=0.02)
    assert np.all(members[0][:30]) and np.all(members[1][30:50])
    assert not np.any(members[0] & members[1])


@pytest.mark.parametrize("degrees", [30, 45, 60])
def test_facade_in_perspective(degrees):
    facade = Facade(96, np.deg2rad(degrees))
    image = facade.render()
    points, _ = vanishing_points(line_segments(image), image.shape)
    horizontal = np.append(facade.vanishing_point, 1.0)
    for expected in (horizontal, np.array([0.0, 1.0, 0.0])):
        assert min(view_angle(point, expected, facade) for point in points) < 1.0
    planes = detect_planes(image)
    assert len(planes.lines) >= 2
    # As a plane's normal: rectification to within 2°.
    to_normal = np.array([facade.focal_length, facade.focal_length, 1.0])
    centre = facade.size / 2
    shift = np.array([[1, 0, 0], [0, 1, 0], [centre, centre, 1]])
    wall = (shift @ facade.vanishing_line) * to_normal
    assert angle((shift @ planes.lines[0]) * to_normal, wall) < 2.0
    np.testing.assert_allclose(planes.probability.sum(axis=0), 1.0, atol=1e-5)
    assert np.mean(planes.probability[0]) > 0.7


@pytest.mark.parametrize("noise", [0, 40])
def test_no_plane_without_lines(noise):
    image = np.random.default_rng(0).normal(128, noise, (64, 48)).clip(0, 255).astype(np.uint8)
    planes = detect_planes(image)
    np.testing.assert_array_equal(planes.lines, [[0, 0, 1]])
    np.testing.assert_array_equal(planes.probability, 1.0)


def test_a_grid_seen_frontally_spans_no_plane_but_the_images():
    image = np.full((64, 64), 200, np.uint8)
    image[::8], image[:, ::8] = 40, 40
    np.testing.assert_array_equal(detect_planes(image).lines, [[0, 0, 1]])


def test_windows_and_enlargements_show_the_same_planes():
    planes = Planes(
        np.array([[0.01, 0.002, 1.0], [0, 0, 1]]),
        np.random.default_rng(0).random((2, 20, 40), np.float32),
    )
    window = planes.crop((slice(10, 30), slice(40, 80)), (40, 80))
    assert window.lines[0] @ (5, 7, 1) == pytest.approx(planes.lines[0] @ (45, 17, 1))
    np.testing.assert_array_equal(window.probability, planes.probability[:, 5:15, 20:])
    enlarged = planes.enlarge(2.0, 3.0)
    assert enlarged.lines[0] @ (15, 14, 1) == pytest.approx(planes.lines[0] @ (5, 7, 1))
