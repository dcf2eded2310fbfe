"""`Upscaler`: tiles, channels, depths and files, against the untiled image and NumPy."""

import copy
import errno
import gc
import os
import tempfile
import weakref

import numpy as np
import pytest
import skimage.data
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from test_images import BAD, bad_file, pixels

import srgan_tf
from srgan_tf import images
from srgan_tf.errors import ImageError, UserError
from srgan_tf.inference import keras, upscaler
from srgan_tf.inference.size import Size
from srgan_tf.inference.upscaler import Upscaler
from srgan_tf.models import SRResNet


def random_generator(scale=4, blocks=1, seed=0):
    """A generator whose outputs depend on its full receptive field, nearly within [-1, 1]."""
    model = SRResNet(scale, blocks, filters=8)
    model.build()
    rng = np.random.default_rng(seed)
    for variable in model.variables:
        value = np.asarray(variable)
        if "moving_variance" in variable.path:
            value = rng.uniform(0.5, 2.0, value.shape)
        elif "gamma" in variable.path:
            value = rng.uniform(0.5, 1.5, value.shape)
        else:
            value = value + rng.normal(0, 0.7 / np.sqrt(max(1, value[..., 0].size)), value.shape)
        variable.assign(value.astype(np.float32))
    return model


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "tiny.keras"
    random_generator().save(path)
    return path


@pytest.fixture(scope="module")
def tiled(weights):
    return Upscaler(weights, tile=16)


@pytest.fixture(scope="module")
def expected(weights):
    """Enlarge uint8 RGB with the Keras model, without tiles."""
    model = tf.keras.models.load_model(weights, compile=False)

    def enlarge(rgb):
        sr = model(rgb[None].astype(np.float32) / 255)[0].numpy()
        return np.clip(np.rint((sr.astype(np.float64) + 1) * 127.5), 0, 255)

    return enlarge


def assert_within_a_level(found, expected):
    assert np.abs(found.astype(int) - expected).max() <= 1
    assert (found == expected).mean() > 0.99  # only ties are rounded differently


@pytest.mark.parametrize(
    "size", [(1, 1), (1, 70), (70, 1), (5, 9), (16, 16), (33, 47), (64, 3), (120, 90)]
)
def test_tiled_equals_whole(tiled, expected, size):
    rgb = pixels(3, np.uint8, *size)
    found = tiled.upscale(rgb)
    assert found.dtype == np.uint8 and found.std() > 20
    assert_within_a_level(found, expected(rgb))


@settings(max_examples=15)
@given(height=st.integers(1, 90), width=st.integers(1, 90), tile=st.integers(1, 40))
def test_any_size_and_tile(tiled, expected, height, width, tile):
    upscaler = copy.copy(tiled)
    upscaler._tile = max(tile, min(height, width) // 4)
    rgb = pixels(3, np.uint8, height, width)
    assert_within_a_level(upscaler.upscale(rgb), expected(rgb))


@pytest.mark.parametrize(("scale", "blocks"), [(2, 1), (4, 1), (4, 3), (8, 2)])
def test_the_overlap_is_the_receptive_field(scale, blocks):
    """The overlap is the radius of the pixels that an impulse changes."""
    model = random_generator(scale, blocks)
    middle = 32
    lr = np.full((2, 2 * middle + 1, 2 * middle + 1, 3), 0.5, np.float32)
    lr[1, middle, middle] = 100.0
    flat, impulse = model(lr).numpy()
    # Some CPUs' kernels round differently at the edges of an image.
    changed = np.flatnonzero((np.abs(flat - impulse) > 1e-4).any(axis=(1, 2))) // scale
    radius = model.features_radius + model.upsample_radius
    assert changed.min() >= middle - radius and changed.max() <= middle + radius
    assert radius - (middle - changed.min()) <= 1


def test_upsampling_in_parts_equals_the_whole(weights, expected, monkeypatch):
    monkeypatch.setattr(keras, "UPSAMPLE_TILE", 10)
    rgb = pixels(3, np.uint8, 37, 52)
    assert_within_a_level(Upscaler(weights).upscale(rgb), expected(rgb))


def test_mixed_bfloat16_gives_nearly_the_same_picture():
    photo = skimage.data.chelsea()[80:112, 120:152]
    exact = Upscaler("srresnet-mse").upscale(photo).astype(int)
    mixed = Upscaler("srresnet-mse", precision="mixed_bfloat16").upscale(photo).astype(int)
    error = np.abs(mixed - exact)
    assert 0 < error.max() <= 16
    assert error.mean() < 1


def test_self_ensemble_is_the_mean_of_the_eight_symmetries(weights):
    model = tf.keras.models.load_model(weights, compile=False)
    rgb = pixels(3, np.uint8, 12, 18)
    results = []
    for turns in range(4):
        for flip in (False, True):
            lr = np.rot90(rgb[::-1] if flip else rgb, turns)
            sr = np.rot90(model(lr[None].astype(np.float32) / 255)[0].numpy(), -turns)
            results.append(sr[::-1] if flip else sr)
    mean = np.clip(np.rint((np.mean(results, axis=0) + 1) * 127.5), 0, 255)
    found = Upscaler(weights, tile=8, self_ensemble=True).upscale(rgb)
    assert_within_a_level(found, mean)
    assert np.abs(found - Upscaler(weights).upscale(rgb).astype(int)).max() > 3


def test_grey_is_the_mean_of_the_channels(tiled, weights):
    grey = pixels(1, np.uint8, 20, 26)
    model = tf.keras.models.load_model(weights, compile=False)
    sr = model(np.repeat(grey[None, ..., None], 3, -1).astype(np.float32) / 255)[0].numpy()
    mean = np.clip(np.rint((sr.mean(-1) + 1) * 127.5), 0, 255)
    assert_within_a_level(tiled.upscale(grey), mean)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_rgb_without_colours_is_enlarged_as_grey(tiled, dtype):
    grey = pixels(2, dtype, 20, 26)
    rgba = grey[..., [0, 0, 0, 1]]
    np.testing.assert_array_equal(tiled.upscale(rgba), tiled.upscale(grey)[..., [0, 0, 0, 1]])
    rgb = np.ascontiguousarray(rgba[..., :3])
    expected = np.repeat(tiled.upscale(grey[..., 0])[..., None], 3, axis=-1)
    np.testing.assert_array_equal(tiled.upscale(rgb), expected)
    rgb[0, 0, 2] ^= 1
    assert np.ptp(tiled.upscale(rgb), axis=-1).max() > 1


def test_16_bits(tiled, weights):
    rgb = pixels(3, np.uint16, 20, 26)
    model = tf.keras.models.load_model(weights, compile=False)
    sr = model(rgb[None].astype(np.float32) / 65535)[0].numpy()
    expected = np.clip(np.rint((sr.astype(np.float64) + 1) * 32767.5), 0, 65535)
    found = tiled.upscale(rgb)
    assert found.dtype == np.uint16
    assert np.abs(found.astype(int) - expected).max() <= 2


@pytest.mark.parametrize("channels", [2, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_alpha_is_enlarged(tiled, channels, dtype):
    image = pixels(channels, dtype, 40, 30)
    image[:20, :, -1] = np.iinfo(dtype).max
    image[20:, :, -1] = 0
    found = tiled.upscale(image)
    assert found.shape == (160, 120, channels) and found.dtype == dtype
    assert (found[:72, :, -1] == np.iinfo(dtype).max).all()
    assert (found[88:, :, -1] == 0).all()


def test_opaque_colours_do_not_depend_on_alpha(tiled):
    rgba = pixels(4, np.uint8, 20, 20)
    rgba[..., 3] = 255
    np.testing.assert_array_equal(tiled.upscale(rgba)[..., :3], tiled.upscale(rgba[..., :3]))


def test_invisible_colours_do_not_bleed(tiled):
    visible = np.full((20, 20, 4), (200, 100, 50, 255), np.uint8)
    hidden = visible.copy()
    hidden[:, 10:] = (0, 255, 0, 0)
    found = tiled.upscale(hidden)
    np.testing.assert_array_equal(found[..., :3], tiled.upscale(visible)[..., :3])


def test_alpha_tiles_have_no_seams(tiled, weights):
    rgba = pixels(4, np.uint8, 50, 44)
    found, whole = tiled.upscale(rgba), Upscaler(weights).upscale(rgba)
    assert np.abs(found.astype(int) - whole).max() <= 1


@pytest.mark.parametrize(
    "bad",
    [
        np.zeros((4, 4, 3), np.float32),
        np.zeros((4, 4, 5), np.uint8),
        np.zeros(4, np.uint8),
        np.zeros((0, 4), np.uint8),
    ],
)
def test_other_arrays_are_refused(tiled, bad):
    with pytest.raises(ValueError):
        tiled.upscale(bad)


def test_bad_requests(weights):
    with pytest.raises(UserError, match="precision must be float32 or mixed_bfloat16, not float16"):
        Upscaler(weights, precision="float16")
    with pytest.raises(UserError, match="tile"):
        Upscaler(weights, tile=0)
    with pytest.raises(UserError, match="no such weights"):
        Upscaler("srresnet-nse")


def test_upscaler_is_in_the_package():
    assert srgan_tf.Upscaler is Upscaler
    with pytest.raises(AttributeError, match="Downscaler"):
        _ = srgan_tf.Downscaler


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_files_equal_arrays(tiled, tmp_path, dtype, channels):
    photo = pixels(channels, dtype, 21, 18)
    images.write_image(tmp_path / "a.png", photo, dpi=(300, 300))
    tiled.upscale_file(tmp_path / "a.png", tmp_path / "new" / "b.tif")
    found = images.read_image(tmp_path / "new" / "b.tif")
    np.testing.assert_array_equal(found.pixels, tiled.upscale(photo))
    assert found.dpi == pytest.approx((300, 300), abs=0.02)


def test_files_are_yielded_in_order(tiled, tmp_path):
    jobs, failing = [], {1, 2, 5}
    for index in range(7):
        source = tmp_path / f"{index}.png"
        if index in failing:
            source.write_bytes(b"")
        else:
            images.write_image(source, pixels(3, np.uint8, 8 + index, 9))
        jobs.append((source, tmp_path / "out" / source.name))
    results = list(tiled.upscale_files(jobs))
    assert [result[:2] for result in results] == jobs
    assert {index for index, result in enumerate(results) if result[2]} == failing
    for index, (_, target) in enumerate(jobs):
        assert target.exists() == (index not in failing)


def test_large_results_are_held_one_at_a_time(tiled, tmp_path, monkeypatch):
    """Without memory for two, a result is written before the next is computed."""
    monkeypatch.setattr(upscaler, "_MEMORY_FOR_RESULTS", 0)
    jobs = []
    for index in range(3):
        images.write_image(tmp_path / f"{index}.png", pixels(3, np.uint8, 8, 9))
        jobs.append((tmp_path / f"{index}.png", tmp_path / "out" / f"{index}.png"))
    begun = []
    upscale = tiled.upscale

    def watched(rgb):
        begun.append([target.exists() for _, target in jobs])
        return upscale(rgb)

    monkeypatch.setattr(tiled, "upscale", watched)
    assert [error for *_, error in tiled.upscale_files(jobs)] == [None] * 3
    assert begun == [[False] * 3, [True, False, False], [True, True, False]]


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg"])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_huge_results_are_in_files(tiled, tmp_path, monkeypatch, suffix, channels, dtype):
    photo = pixels(channels, dtype, 37, 20)
    if channels == 4:
        photo[..., 3] = np.iinfo(dtype).max
    images.write_image(tmp_path / "a.png", photo)
    tiled.upscale_file(tmp_path / "a.png", tmp_path / f"b{suffix}")
    monkeypatch.setattr(upscaler, "_LARGEST_IN_MEMORY", 0)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    tiled.upscale_file(tmp_path / "a.png", tmp_path / f"c{suffix}")
    assert (tmp_path / f"b{suffix}").read_bytes() == (tmp_path / f"c{suffix}").read_bytes()
    assert not list((tmp_path / "scratch").iterdir())


@pytest.mark.parametrize("size", [Size(), Size(scale=1.5)])
def test_a_huge_result_has_no_file_name(tiled, tmp_path, monkeypatch, size):
    monkeypatch.setattr(upscaler, "_LARGEST_IN_MEMORY", 0)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(tiled, "_size", size)
    result = tiled.upscale(pixels(3, np.uint8, 8, 9))
    assert isinstance(result, np.memmap) and result.any()
    assert not list(tmp_path.iterdir())


def test_a_discarded_upscaler_is_freed_at_once():
    gc.collect()
    gc.disable()
    try:
        discarded = Upscaler("srgan-mobile")
        engine = weakref.ref(discarded._enlarge)
        discarded.upscale(pixels(3, np.uint8, 8, 9))
        del discarded
        assert engine() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("wrong", [None, [[1, 2]], Image.new("RGB", (2, 2))])
def test_only_arrays_are_enlarged(tiled, wrong):
    with pytest.raises(ValueError, match="must be a NumPy array, not"):
        tiled.upscale(wrong)


def test_no_room_for_a_huge_result(tiled, tmp_path, monkeypatch):
    images.write_image(tmp_path / "a.png", pixels(3, np.uint8, 8, 9))
    monkeypatch.setattr(upscaler, "_LARGEST_IN_MEMORY", 0)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(ImageError, match=r"a\.png: its enlargement needs .*TMPDIR.*No space"):
        tiled.upscale_file(tmp_path / "a.png", tmp_path / "b.png")
    assert not (tmp_path / "b.png").exists()


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", BAD)
def test_bad_files_leave_nothing(tiled, tmp_path, kind):
    path, _ = bad_file(tmp_path, kind)
    with pytest.raises(ImageError, match=path.name):
        tiled.upscale_file(path, tmp_path / "out" / "a.png")
    assert not (tmp_path / "out").exists()


def test_a_result_too_large_for_its_format_is_refused_at_once(tiled, tmp_path, monkeypatch):
    images.write_image(tmp_path / "a.png", np.zeros((1, 4096), np.uint8))
    monkeypatch.setattr(tiled, "upscale", None)
    with pytest.raises(ImageError, match=r"16384×4 is more than \.webp holds"):
        tiled.upscale_file(tmp_path / "a.png", tmp_path / "a.webp")


def test_ctrl_c_leaves_nothing_half_written(tiled, tmp_path, monkeypatch):
    jobs = []
    for index in range(3):
        images.write_image(tmp_path / f"{index}.png", pixels(3, np.uint8, 8, 9))
        jobs.append((tmp_path / f"{index}.png", tmp_path / "out" / f"{index}.png"))
    upscale, calls = tiled.upscale, []

    def interrupted(rgb):
        calls.append(rgb)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return upscale(rgb)

    monkeypatch.setattr(tiled, "upscale", interrupted)
    with pytest.raises(KeyboardInterrupt):
        list(tiled.upscale_files(jobs))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["0.png"]
    with Image.open(tmp_path / "out" / "0.png") as image:
        image.load()
