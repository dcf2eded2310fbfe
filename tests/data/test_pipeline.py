"""Batches as a pure function of (seed, step), and the held-out photos."""

import json
import multiprocessing
import os
import re
import signal
import tempfile
import time
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from srgan_tf.config import DataConfig
from srgan_tf.data import loader
from srgan_tf.data.crops import crop_batch
from srgan_tf.data.loader import load_batches
from srgan_tf.data.pipeline import to_pair, training_dataset, validation_pairs
from srgan_tf.data.store import PhotoStore, read_store, split_photos
from srgan_tf.errors import UserError
from srgan_tf.resize import bicubic_downscale

_STORES = tempfile.TemporaryDirectory(prefix="srgan_tf-stores-")
CONFIG = DataConfig(hr_crop=16, batch_size=8, validation_crop=32)


def store_of(*photos: np.ndarray) -> PhotoStore:
    """Create a store on disk, which other processes can open."""
    folder = Path(tempfile.mkdtemp(dir=_STORES.name))
    shapes = [(f"{index}.png", photo.shape) for index, photo in enumerate(photos)]
    index = {"photos": shapes, "skipped": [], "fingerprint": "fingerprint"}
    (folder / "index.json").write_text(json.dumps(index))
    (folder / "pixels.u8").write_bytes(b"".join(photo.tobytes() for photo in photos))
    return read_store(folder)


def make_store(*shapes: tuple[int, int]) -> PhotoStore:
    """Create photos of distinct pixels: red and green count up, blue is the photo's index."""
    photos = []
    for index, (height, width) in enumerate(shapes):
        photo = np.empty((height, width, 3), np.uint8)
        counter = np.arange(height * width).reshape(height, width)
        photo[..., 0], photo[..., 1], photo[..., 2] = counter % 256, counter // 256, index
        photos.append(photo)
    return store_of(*photos)


def hr_batch(store: PhotoStore, config: DataConfig, seed: int, step: int) -> np.ndarray:
    return crop_batch(store, config, 4, seed, step)[1]


STORE = make_store((40, 50), (16, 70), (64, 16), (33, 33))


def cropped(side: int, batch_size: int, attempts: int = 1) -> DataConfig:
    changes = {"hr_crop": side, "batch_size": batch_size, "crop_attempts": attempts}
    return CONFIG.model_copy(update=changes)


def slopes(height: int, config: DataConfig) -> np.ndarray:
    """Return the differences of crops' neighbouring pixels, which are 2 in the photo."""
    row = np.arange(0, 256, 2, dtype=np.uint8)
    photo = np.broadcast_to(row[:, None], (height, 128, 3)).copy()
    store = store_of(photo)
    green = hr_batch(store, config, seed=0, step=0)[..., 1].astype(float)
    inner = green[:, 4:-4, 4:-4]  # a downscaled ramp is not linear at its ends
    along_rows, along_columns = (np.abs(np.diff(inner, axis=axis)) for axis in (1, 2))
    return np.maximum(along_rows.mean((1, 2)), along_columns.mean((1, 2)))


def batches(steps: range, context=None, **changes):
    config = CONFIG.model_copy(update=changes)
    return list(training_dataset(STORE, config, 4, 7, steps, context))


def symmetries(crop: np.ndarray) -> list[np.ndarray]:
    return [np.rot90(c, k) for c in (crop, crop[:, ::-1]) for k in range(4)]


def find_symmetry(photo: np.ndarray, crop: np.ndarray) -> int | None:
    """Return the index of the symmetry under which the crop is part of the photo."""
    size = crop.shape[0]
    for number, turned in enumerate(symmetries(crop)):
        counter = int(turned[0, 0, 1]) * 256 + int(turned[0, 0, 0])
        y, x = divmod(counter, photo.shape[1])
        if np.array_equal(photo[y : y + size, x : x + size], turned):
            return number
    return None


def test_a_batch_is_a_function_of_seed_and_step():
    batch = hr_batch(STORE, CONFIG, seed=1, step=2)
    np.testing.assert_array_equal(batch, hr_batch(STORE, CONFIG, seed=1, step=2))
    for seed, step in ((1, 3), (2, 2), (2, 1)):
        assert np.any(batch != hr_batch(STORE, CONFIG, seed, step))


def test_crops_are_parts_of_photos_under_each_of_the_8_symmetries():
    crops = hr_batch(STORE, cropped(16, 200), seed=0, step=0)
    found = [(crop[0, 0, 2], find_symmetry(STORE[int(crop[0, 0, 2])], crop)) for crop in crops]
    assert {photo for photo, _ in found} == {0, 1, 2, 3}
    assert {symmetry for _, symmetry in found} == set(range(8))


def test_photos_are_downscaled_by_any_factor_from_min_downscale_to_1():
    config = cropped(24, 200).model_copy(update={"min_downscale": 0.5})
    found = slopes(64, config)
    assert 1.9 < found.min() < 2.2
    assert 3.8 < found.max() < 4.1
    np.testing.assert_allclose(slopes(64, cropped(24, 20)), 2)


def test_a_small_photo_is_downscaled_to_the_side_of_a_crop():
    config = cropped(24, 100).model_copy(update={"min_downscale": 0.25})
    assert 2.4 < slopes(30, config).max() < 2.6


def test_crops_reach_every_corner():
    crops = hr_batch(make_store((18, 18)), cropped(16, 300), seed=0, step=0)
    counters = crops[..., 1].astype(int) * 256 + crops[..., 0]
    corners = {0, 17, 17 * 18, 18 * 18 - 1}
    assert corners <= set(counters.ravel().tolist())


@given(st.integers(16, 40), st.integers(16, 40), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_crops_of_any_size_lie_within_photos_of_any_size(height, width, quarter, seed):
    crop = 4 * quarter
    photo = make_store((height, width))
    (piece,) = hr_batch(photo, cropped(crop, 1), seed, step=0)
    assert piece.shape == (crop, crop, 3)
    assert find_symmetry(photo[0], piece) is not None


@pytest.mark.parametrize("texture", ["flat", "finer than LR's pixels"])
def test_crop_attempts_keep_the_crop_with_the_most_detail_in_lr(texture):
    y, x = np.indices((64, 256))
    photo = np.zeros((64, 256, 3), np.uint8)
    photo[..., 1] = np.where((x + y) % 2, 255, 0) if texture != "flat" else 128
    photo[:, 128:, 1] = 16 * (x[:, 128:] // 8 % 2)
    photo[:, 128:, 0] = 1
    store = store_of(photo)
    outside = [
        np.mean(hr_batch(store, cropped(16, 400, attempts), 0, 0)[..., 0].max((1, 2)) == 0)
        for attempts in (1, 3)
    ]
    # 113 of the 241 positions have no stripe.
    np.testing.assert_allclose(outside, [113 / 241, (113 / 241) ** 3], atol=0.07)


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_without_degradation_lr_is_the_bicubic_of_hr(scale):
    store = store_of(np.random.default_rng(0).integers(0, 256, (40, 56, 3), np.uint8))
    lr, hr = crop_batch(store, cropped(16, 6), scale, 0, 0)
    assert (lr.dtype, hr.dtype) == (np.uint8, np.uint8)
    np.testing.assert_array_equal(lr, bicubic_downscale(hr, scale))


def test_pairs_have_the_models_ranges():
    hr = np.random.default_rng(0).integers(0, 256, (2, 16, 24, 3), np.uint8)
    hr[0, 0, 0], hr[0, 0, 1] = 0, 255
    lr, scaled = to_pair(hr, hr)
    assert (lr.dtype, scaled.dtype) == (tf.float32, tf.float32)
    assert (np.min(scaled), np.max(scaled)) == (-1, 1)
    assert (np.min(lr), np.max(lr)) == (0, 1)
    np.testing.assert_array_equal(np.rint((scaled + 1) * 127.5), hr)
    np.testing.assert_array_equal(np.rint(lr * 255), hr)


def test_a_crop_of_a_batch_can_be_made_alone():
    lr, hr = crop_batch(STORE, CONFIG, 4, 3, 5)
    some = crop_batch(STORE, CONFIG, 4, 3, 5, range(2, 5))
    np.testing.assert_array_equal(some[0], lr[2:5])
    np.testing.assert_array_equal(some[1], hr[2:5])


def test_the_dataset_gives_the_batches_of_its_steps():
    for step, (lr, hr) in zip(range(3, 6), batches(range(3, 6)), strict=True):
        expected = to_pair(*crop_batch(STORE, CONFIG, 4, 7, step))
        np.testing.assert_array_equal(lr, expected[0])
        np.testing.assert_array_equal(hr, expected[1])
        assert (lr.shape, hr.shape) == ((8, 4, 4, 3), (8, 16, 16, 3))


def test_a_resumed_dataset_continues():
    unbroken, resumed = batches(range(4)), batches(range(2)) + batches(range(2, 4))
    for (_, a), (_, b) in zip(unbroken, resumed, strict=True):
        np.testing.assert_array_equal(a, b)


def ignores_sigterm(pid: int) -> bool:
    (ignored,) = re.findall(r"SigIgn:\s*(\w+)", Path(f"/proc/{pid}/status").read_text())
    return bool(int(ignored, 16) >> (signal.SIGTERM - 1) & 1)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux")
@pytest.mark.parametrize("consumed", [True, False])
def test_the_processes_end_with_the_run_and_not_by_the_signal_that_stops_it(consumed):
    elements = ((step, range(8)) for step in range(10**6))
    batches = load_batches(STORE.open, CONFIG, 4, 7, elements, 2)
    next(batches)
    processes = multiprocessing.active_children()
    assert len(processes) == 2
    while not all(ignores_sigterm(process.pid) for process in processes):
        time.sleep(0.05)  # the second may still be starting
    for process in processes:
        os.kill(process.pid, signal.SIGTERM)
    for _ in range(20):  # more than are prefetched
        next(batches)
    os.kill(processes[0].pid, signal.SIGKILL)
    if consumed:
        with pytest.raises(BrokenProcessPool):
            list(batches)
    batches.close()
    assert not multiprocessing.active_children()


def test_prefetched_batches_fit_into_the_shared_memory(monkeypatch):
    def slots(free):
        monkeypatch.setattr(loader.shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
        return loader._count_slots(8, 1000)

    assert [slots(free) for free in (2000, 9000, 10**9)] == [1, 4, 8]
    with pytest.raises(UserError, match=r"/dev/shm: .* MB are free.*--shm-size"):
        slots(1999)


def test_batches_are_the_same_however_few_are_prefetched(monkeypatch):
    def load():
        elements = ((step, range(8)) for step in range(5))
        return list(load_batches(STORE.open, CONFIG, 4, 7, elements, 1))

    expected = load()
    monkeypatch.setattr(loader, "_count_slots", lambda *_: 1)
    np.testing.assert_equal(load(), expected)


@pytest.mark.parametrize(("workers", "replicas"), [(1, 1), (1, 4), (2, 2), (4, 1)])
def test_workers_and_replicas_share_the_global_batch(workers, replicas):
    slices = []
    for worker in range(workers):
        context = tf.distribute.InputContext(workers, worker, workers * replicas)
        elements = [hr for _, hr in batches(range(5, 7), context)]
        assert len(elements) == 2 * replicas
        slices.append(elements)
    for number, step in enumerate((5, 6)):
        parts = [s[number * replicas + r] for s in slices for r in range(replicas)]
        expected = to_pair(*crop_batch(STORE, CONFIG, 4, 7, step))[1]
        np.testing.assert_array_equal(np.concatenate(parts), expected)


def test_a_batch_that_does_not_divide_by_the_replicas_is_refused():
    with pytest.raises(ValueError):
        batches(range(1), tf.distribute.InputContext(1, 0, 3))


@given(st.integers(1, 200), st.integers(1, 50), st.integers(0, 2**32 - 1))
def test_photos_are_trained_on_or_held_out_but_never_both(count, wanted, seed):
    store = make_store(*[(32, 32)] * count)
    config = DataConfig(validation_photos=wanted, hr_crop=16)
    training, held_out = (photos.names for photos in split_photos(store, config, seed))
    again = tuple(photos.names for photos in split_photos(store, config, seed))
    assert (training, held_out) == again
    if count == 1:
        assert training == held_out == ("0.png",)
    else:
        assert sorted(training + held_out) == sorted(store.names)
        assert len(held_out) == max(1, min(wanted, count // 5))


def test_photos_too_small_to_measure_are_left_out():
    photos = make_store((31, 60), (40, 40), (32, 32))
    config = DataConfig(hr_crop=16)
    training, held_out = split_photos(photos, config, 0)
    assert {*training.names, *held_out.names} == {"1.png", "2.png"}
    with pytest.raises(UserError, match="no photo has sides of at least 32 pixels; give larger"):
        split_photos(make_store((31, 60)), config, 0)


def test_another_seed_holds_out_other_photos():
    store = make_store(*[(32, 32)] * 100)
    assert split_photos(store, CONFIG, 0)[1].names != split_photos(store, CONFIG, 1)[1].names


def test_a_photo_is_held_out_whatever_the_size_of_the_crops():
    store = make_store(*[(16, 16)] * 50, *[(40, 40)] * 50)
    small, large = (DataConfig(hr_crop=side) for side in (16, 32))
    held_out = set(split_photos(store, small, 0)[1].names)
    training, large_held_out = split_photos(store, large, 0)
    assert set(large_held_out.names) <= held_out
    assert not held_out & set(training.names)
    assert all(min(shape[:2]) == 40 for shape in training.shapes)


def test_photos_that_are_all_too_small_are_refused():
    with pytest.raises(UserError, match=r"no photo has sides of at least 32 pixels"):
        split_photos(make_store((20, 50)), DataConfig(hr_crop=32), 0)


def test_held_out_photos_are_cropped_centrally_to_a_multiple_of_the_scale():
    store = make_store((64, 35), (17, 19))
    (large, small) = validation_pairs(store, CONFIG, 4, seed=0)
    expected = [store[0][16:48, 1:33], store[1][0:16, 1:17]]
    for (lr, hr), crop in zip((large, small), expected, strict=True):
        wanted = to_pair(bicubic_downscale(crop[None], 4), crop[None])
        np.testing.assert_array_equal(hr, wanted[1])
        np.testing.assert_array_equal(lr, wanted[0])
