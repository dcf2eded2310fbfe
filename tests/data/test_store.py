"""Decoded photos in the cache."""

import pickle
import subprocess
import sys
import warnings

import numpy as np
import pytest

from srgan_tf.data.sources import PhotoSource
from srgan_tf.data.store import open_store
from srgan_tf.errors import UserError

RNG = np.random.default_rng(0)
PHOTOS = {f"{i}.png": RNG.integers(0, 256, (20 + i, 30 - i, 3), np.uint8) for i in range(3)}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SRGAN_TF_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "photos"


def source(photos, key="key") -> PhotoSource:
    """Return a source that counts how often it is read."""

    def read():
        read.times += 1
        yield from photos.items()

    read.times = 0
    return PhotoSource("test photos", key, len(photos), read)


def test_gives_the_photos_by_index():
    store = open_store(source(PHOTOS))
    assert len(store) == 3
    assert store.names == tuple(PHOTOS)
    for index, photo in enumerate(PHOTOS.values()):
        assert store[index].dtype == np.uint8
        np.testing.assert_array_equal(store[index], photo)
    with pytest.raises(ValueError, match="read-only"):
        store[0][0, 0] = 0


def test_the_second_opening_decodes_nothing(cache):
    first, again = source(PHOTOS), source(PHOTOS)
    one, two = open_store(first), open_store(again)
    assert (first.photos.times, again.photos.times) == (1, 0)
    assert one.fingerprint == two.fingerprint
    np.testing.assert_array_equal(one[2], two[2])
    assert len(list(cache.iterdir())) == 1


def test_a_source_with_another_key_is_decoded():
    open_store(source(PHOTOS))
    other = source(PHOTOS, "other key")
    open_store(other)
    assert other.photos.times == 1


def test_a_subset_opens_again_as_itself():
    subset = open_store(source(PHOTOS)).subset([2, 0])
    for photos in (subset, subset.open(), pickle.loads(pickle.dumps(subset.open))()):
        assert photos.names == ("2.png", "0.png")
        np.testing.assert_array_equal(photos[0], PHOTOS["2.png"])


def test_the_fingerprint_tells_contents_apart():
    changed = {name: photo.copy() for name, photo in PHOTOS.items()}
    changed["1.png"][0, 0, 0] ^= 1
    renamed = {name.replace("1", "7"): photo for name, photo in PHOTOS.items()}
    stores = [open_store(source(p, str(i))) for i, p in enumerate((PHOTOS, changed, renamed))]
    assert len({store.fingerprint for store in stores}) == 3


def test_unusable_photos_are_skipped_with_one_warning_each():
    photos = {"broken.png": OSError("truncated")}
    for _ in range(2):  # the second time from the cache
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            store = open_store(source(PHOTOS | photos))
        assert store.names == tuple(PHOTOS)
        assert [str(warning.message) for warning in caught] == [
            "broken.png: skipped, unreadable (truncated)",
        ]


def test_no_usable_photo_is_an_error_that_names_the_source():
    with (
        pytest.warns(UserWarning, match="skipped"),
        pytest.raises(UserError, match="test photos: no readable photo; the warnings"),
    ):
        open_store(source({"broken.png": OSError("truncated")}))


def test_an_interrupted_decoding_leaves_nothing_and_can_be_repeated(cache):
    def interrupted():
        yield "0.png", PHOTOS["0.png"]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_store(PhotoSource("test photos", "key", None, interrupted))
    assert list(cache.iterdir()) == []
    assert len(open_store(source(PHOTOS))) == 3


def test_a_store_of_a_killed_decoding_is_not_used(cache):
    program = """
import os, signal, numpy as np
from srgan_tf.data.sources import PhotoSource
from srgan_tf.data.store import open_store
def photos():
    yield "0.png", np.zeros((20, 20, 3), np.uint8)
    os.kill(os.getpid(), signal.SIGKILL)
open_store(PhotoSource("test photos", "key", None, photos))
"""
    killed = subprocess.run([sys.executable, "-c", program], capture_output=True)
    assert killed.returncode == -9, killed.stderr
    assert list(cache.iterdir())
    again = source(PHOTOS)
    assert len(open_store(again)) == 3
    assert again.photos.times == 1


def test_the_slower_of_two_processes_uses_the_cache_of_the_faster():
    def slow():
        open_store(source(PHOTOS))  # another process was first
        yield from PHOTOS.items()

    store = open_store(PhotoSource("test photos", "key", None, slow))
    np.testing.assert_array_equal(store[1], PHOTOS["1.png"])


def test_a_cache_that_cannot_be_written_is_a_user_error(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("SRGAN_TF_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError, match="set SRGAN_TF_CACHE=DIR to move it"):
        open_store(source(PHOTOS))


@pytest.mark.parametrize("damage", ["pixels.u8", "index.json"])
def test_a_damaged_cache_is_decoded_again(cache, damage):
    expected = np.array(open_store(source(PHOTOS))[1])
    (file,) = cache.glob(f"*/{damage}")
    file.write_bytes(file.read_bytes()[:1])
    again = source(PHOTOS)
    np.testing.assert_array_equal(open_store(again)[1], expected)
    assert again.photos.times == 1
