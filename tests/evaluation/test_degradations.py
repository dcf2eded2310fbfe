"""Degraded LR, against Pillow and NumPy used directly."""

import io
import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import Image

from srgan_tf.errors import UserError
from srgan_tf.evaluation.degradations import CLEAN, parse_degradation

PHOTO = np.random.default_rng(0).integers(0, 256, (37, 45, 3), dtype=np.uint8)
PHOTO = np.asarray(Image.fromarray(PHOTO[:10, :12]).resize((45, 37)))


def saved(image, kind, quality):
    file = io.BytesIO()
    Image.fromarray(image).save(file, kind, quality=quality)
    return np.asarray(Image.open(file).convert("RGB"))


def noisy(image, sigma, name):
    noise = np.random.default_rng(zlib.crc32(name.encode())).normal(0, sigma, image.shape)
    return np.clip(np.rint(image + noise), 0, 255).astype(np.uint8)


def shifted_jpeg(image, x, y, quality):
    height, width = image.shape[:2]
    larger = np.pad(image, [(y, 8), (x, 8), (0, 0)], "reflect")
    return saved(larger, "JPEG", quality)[y : y + height, x : x + width]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("clean", PHOTO),
        ("jpeg75", saved(PHOTO, "JPEG", 75)),
        ("webp60", saved(PHOTO, "WEBP", 60)),
        ("noise5", noisy(PHOTO, 5, "img_001.png")),
        ("noise2.5+jpeg75", saved(noisy(PHOTO, 2.5, "img_001.png"), "JPEG", 75)),
        ("jpeg75+noise5", noisy(saved(PHOTO, "JPEG", 75), 5, "img_001.png")),
        ("shift5.3", PHOTO),
        ("resaved", shifted_jpeg(saved(PHOTO, "JPEG", 85), 5, 3, 60)),
        ("jpeg85+shift5.3+jpeg60", shifted_jpeg(saved(PHOTO, "JPEG", 85), 5, 3, 60)),
    ],
)
def test_steps_are_done_in_order(text, expected):
    degrade = parse_degradation(text)
    assert degrade.name == text
    result = degrade(PHOTO, "img_001.png")
    assert result.dtype == np.uint8
    np.testing.assert_array_equal(result, expected)


def test_noise_is_a_function_of_the_file_s_name():
    degrade = parse_degradation("noise7")
    np.testing.assert_array_equal(degrade(PHOTO, "a.png"), degrade(PHOTO, "a.png"))
    assert (degrade(PHOTO, "a.png") != degrade(PHOTO, "b.png")).any()
    grey = np.full((200, 200, 3), 128, np.uint8)
    assert np.std(degrade(grey, "a.png").astype(float)) == pytest.approx(7, rel=0.02)


def test_the_grid_of_jpeg_is_moved():
    step = np.repeat(np.arange(48) // 8 * 40, 48).reshape(48, 48).T
    blocks = np.repeat(step[..., None], 3, axis=2).astype(np.uint8)  # constant within JPEG's blocks
    here = parse_degradation("jpeg30")(blocks, "").astype(int)
    moved = parse_degradation("shift4.4+jpeg30")(blocks, "").astype(int)
    assert np.abs(here - blocks).max() <= 6 < np.abs(moved - blocks).max()


def test_small_images_are_degraded_too():
    for side in (1, 2, 5):
        small = PHOTO[:side, :side]
        assert parse_degradation("noise5+resaved")(small, "a.png").shape == small.shape


def test_one_degradation_has_one_name():
    assert parse_degradation("noise2.50+jpeg075") == parse_degradation("noise2.5+jpeg75")
    assert parse_degradation("clean") is CLEAN


@pytest.mark.parametrize(
    ("text", "near"),
    [
        ("jpg75", "jpeg75"),
        ("JPEG75", "jpeg75"),
        ("jpeg", "jpeg75"),
        ("jpeg101", "jpeg100"),
        ("jpeg0", "jpeg1"),
        ("jpeg7.5", "jpeg7"),
        ("nois5+jpg75", "noise5+jpeg75"),
        ("noise-3", "noise3"),
        ("noise500", "noise100"),
        ("shift3", "shift5.3"),
        ("shift20.3", "shift15.3"),
        ("resave", "resaved"),
        ("clean+jpeg75", "jpeg75"),
        ("jpeg75+", "jpeg75"),
        ("", "clean"),
    ],
)
def test_the_error_of_a_wrong_name_suggests_the_nearest(text, near):
    with pytest.raises(UserError) as caught:
        parse_degradation(text)
    assert f"{text}: no such degradation, did you mean {near}? Use clean, or" in str(caught.value)
    parse_degradation(near)


def test_it_needs_no_tensorflow():
    code = "import sys, srgan_tf.evaluation.degradations; assert 'tensorflow' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
