"""`upscale`, the public function."""

import sys

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("numba")
pytest.importorskip("cv2")

import srgan_tf.selfexsr
from srgan_tf.errors import UserError
from srgan_tf.metrics import psnr_y
from srgan_tf.resize import bicubic_upscale
from srgan_tf.selfexsr import upscale


def photo(height: int, width: int, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 256, (height // 4 + 1, width // 4 + 1, 3))
    return np.kron(noise, np.ones((4, 4, 1)))[:height, :width].astype(np.uint8)


@pytest.mark.parametrize(("height", "width", "scale"), [(32, 32, 2), (33, 47, 2), (41, 32, 3)])
def test_any_size(height, width, scale):
    pixels = photo(height, width)
    sr = upscale(pixels, scale)
    assert sr.shape == (scale * height, scale * width, 3) and sr.dtype == np.uint8


def test_grey_is_one_channel():
    grey = photo(32, 40)[..., 0]
    sr = upscale(grey, 2)
    assert sr.shape == (64, 80) and sr.dtype == np.uint8
    assert np.abs(sr.astype(float).mean() - grey.mean()) < 2


def test_a_seed_decides():
    pixels = photo(32, 36)
    one, same, other = (upscale(pixels, 2, seed=seed) for seed in (-3, -3, 4))
    np.testing.assert_array_equal(one, same)
    assert np.any(one != other)


def test_colour_is_kept():
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[:, :16], pixels[:, 16:] = (200, 40, 30), (20, 60, 180)
    sr = upscale(pixels, 2).astype(int)
    np.testing.assert_allclose(sr[:, :24], np.broadcast_to([200, 40, 30], (64, 24, 3)), atol=3)
    np.testing.assert_allclose(sr[:, 40:], np.broadcast_to([20, 60, 180], (64, 24, 3)), atol=3)


def test_tiles_join(monkeypatch):
    y, x = np.mgrid[:36, :64]
    pixels = np.rint(127 + 100 * np.sin(x / 3 + y / 7)).astype(np.uint8)
    whole = upscale(pixels, 2).astype(float)
    monkeypatch.setattr(srgan_tf.selfexsr, "_TILE", 64)
    monkeypatch.setattr(srgan_tf.selfexsr, "_OVERLAP", 8)
    tiled = upscale(pixels, 2).astype(float)
    assert np.any(tiled != whole)
    assert np.sqrt(np.mean((tiled - whole) ** 2)) < 3
    steps, whole_steps = (np.abs(np.diff(sr, axis=1)).mean(axis=0) for sr in (tiled, whole))
    assert steps.max() < 1.2 * whole_steps.max()  # no seam


@pytest.mark.parametrize(
    ("pixels", "scale"),
    [
        (np.zeros((40, 40), np.float32), 4),
        (np.zeros((40, 40, 4), np.uint8), 4),
        (np.zeros((40, 40, 3), np.uint8), 1),
        (np.zeros((40, 40, 3), np.uint8), 9),
    ],
)
def test_refuses_other_pixels_and_scales(pixels, scale):
    with pytest.raises(ValueError, match="must be"):
        upscale(pixels, scale)


def test_refuses_small_images():
    with pytest.raises(UserError, match="at least 32 pixels, not 40×31"):
        upscale(np.zeros((31, 40, 3), np.uint8))


@pytest.mark.parametrize("package", ["numba", "cv2"])
def test_names_the_missing_package(package, monkeypatch):
    for module in [name for name in sys.modules if name.startswith("srgan_tf.selfexsr.")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=rf"{package}.*pip install 'srgan-tf\[selfexsr\]'"):
        upscale(np.zeros((32, 32), np.uint8))


def test_beats_bicubic_on_a_photo(shared):
    folder = shared / "data" / "benchmarks" / "Set5"
    lr, hr = (np.asarray(Image.open(folder / of / "img_003.png")) for of in ("LRx4", "HR"))
    sr = upscale(lr)
    assert psnr_y(hr, sr, border=4) > psnr_y(hr, bicubic_upscale(lr, 4), border=4) + 1.8
