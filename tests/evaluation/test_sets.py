"""Benchmark sets on disk."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from srgan_tf.errors import ImageError, UserError
from srgan_tf.evaluation.degradations import CLEAN, parse_degradation
from srgan_tf.evaluation.sets import open_sets
from srgan_tf.resize import bicubic_downscale


def save(path, height, width, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels


def test_sets_come_in_their_usual_order_and_only_those_with_hr(tmp_path):
    for name in ("BSD100", "Own", "Set14", "Set5"):
        save(tmp_path / name / "HR" / "a.png", 8, 8)
    (tmp_path / "notes").mkdir()
    assert list(open_sets(tmp_path, None, 4)) == ["Set5", "Set14", "BSD100", "Own"]
    assert list(open_sets(tmp_path, ["Own", "Set5"], 4)) == ["Own", "Set5"]


def test_lr_is_read_where_it_is_given(tmp_path):
    hr = save(tmp_path / "A" / "HR" / "a.png", 11, 14)
    lr = save(tmp_path / "A" / "LRx4" / "a.png", 2, 3, seed=1)
    (image,) = open_sets(tmp_path, None, 4)["A"]
    np.testing.assert_array_equal(image.load()[0], lr)
    np.testing.assert_array_equal(image.load()[1], hr[:8, :12])


def test_lr_is_made_where_it_is_not(tmp_path):
    hr = save(tmp_path / "A" / "HR" / "a.png", 11, 14)
    save(tmp_path / "A" / "LRx4" / "a.png", 2, 3)
    (image,) = open_sets(tmp_path, None, 2)["A"]
    lr, cut = image.load()
    np.testing.assert_array_equal(cut, hr[:10, :14])
    np.testing.assert_array_equal(lr, bicubic_downscale(cut, 2))


def test_a_digest_changes_with_the_files_and_the_scale(tmp_path):
    save(tmp_path / "A" / "HR" / "a.png", 8, 8)
    digests = {open_sets(tmp_path, None, scale)["A"][0].digest for scale in (2, 4, 4)}
    assert len(digests) == 2
    save(tmp_path / "A" / "LRx4" / "a.png", 2, 2)
    digests.add(open_sets(tmp_path, None, 4)["A"][0].digest)
    save(tmp_path / "A" / "HR" / "a.png", 8, 8, seed=1)
    digests.add(open_sets(tmp_path, None, 4)["A"][0].digest)
    assert len(digests) == 4


def test_a_set_is_there_with_each_degradation(tmp_path):
    hr = save(tmp_path / "A" / "HR" / "a.png", 40, 48)
    kinds = [CLEAN, parse_degradation("noise9+jpeg50")]
    sets = open_sets(tmp_path, None, 4, kinds)
    assert list(sets) == ["A", "A-noise9+jpeg50"]
    (clean,), (degraded,) = sets.values()
    assert degraded.clean_set == clean.clean_set == clean.set == "A"
    np.testing.assert_array_equal(degraded.load()[0], kinds[1](clean.load()[0], "a.png"))
    np.testing.assert_array_equal(degraded.load()[1], hr)
    assert degraded.digest != clean.digest


def test_two_sets_of_one_name_are_refused(tmp_path):
    for name in ("A", "A-jpeg20", "A-clean"):
        save(tmp_path / name / "HR" / "a.png", 8, 8)
    kinds = [CLEAN, parse_degradation("jpeg20")]
    with pytest.raises(UserError, match=r"A-jpeg20: .*set A with jpeg20.*set A-jpeg20 with clean"):
        open_sets(tmp_path, None, 4, kinds)
    assert list(open_sets(tmp_path, ["A-jpeg20", "A"], 4)) == ["A-jpeg20", "A"]
    twice = open_sets(tmp_path, ["A", "A-clean", "A"], 4, kinds + kinds)
    assert list(twice) == ["A", "A-jpeg20", "A-clean", "A-clean-jpeg20"]
    assert twice["A-clean"][0].clean_set == twice["A-clean-jpeg20"][0].clean_set == "A-clean"


@pytest.mark.parametrize("folder", ["HR", "LRx4"])
def test_two_images_of_one_name_are_refused(tmp_path, folder):
    save(tmp_path / "A" / "HR" / "a.png", 8, 8)
    save(tmp_path / "A" / folder / "a.png", 8, 8)
    save(tmp_path / "A" / folder / "a.jpg", 8, 8)
    with pytest.raises(UserError, match=rf"{folder}: a\.jpg and a\.png have the same name"):
        open_sets(tmp_path, None, 4)


def test_the_noise_is_that_of_the_file_s_name(tmp_path):
    for name in "ab":
        save(tmp_path / "A" / "HR" / f"{name}.png", 8, 8)
        save(tmp_path / "A" / "LRx4" / f"{name}.png", 2, 2)
    a, b = open_sets(tmp_path, None, 4, [parse_degradation("noise20")])["A-noise20"]
    assert a.digest != b.digest and (a.load()[0] != b.load()[0]).any()


def test_names_that_are_not_utf_8(tmp_path):
    folder = os.fsdecode(b"pl\xe4tze")
    save(tmp_path / folder / "HR" / os.fsdecode(b"caf\xe9.png"), 8, 8)
    assert list(open_sets(tmp_path, [folder], 4)) == ["pl\\xe4tze"]
    for (image,) in open_sets(tmp_path, None, 4, [CLEAN, parse_degradation("noise5")]).values():
        assert image.full_name.endswith("/caf\\xe9") and image.digest
        assert image.load()[0].shape == (2, 2, 3)


def test_a_folder_that_is_not_accessible_is_no_set(tmp_path, monkeypatch):
    save(tmp_path / "A" / "HR" / "a.png", 8, 8)
    (tmp_path / "lost+found").mkdir()
    is_dir = Path.is_dir

    def refuse(path):
        if "lost+found" in str(path):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return is_dir(path)

    monkeypatch.setattr(Path, "is_dir", refuse)
    assert list(open_sets(tmp_path, None, 4)) == ["A"]


def test_errors_name_the_set_or_folder(tmp_path):
    with pytest.raises(UserError, match="nowhere: no such folder"):
        open_sets(tmp_path / "nowhere", None, 4)
    with pytest.raises(UserError, match="no benchmark set"):
        open_sets(tmp_path, None, 4)
    (tmp_path / "A" / "HR").mkdir(parents=True)
    with pytest.raises(UserError, match="no image"):
        open_sets(tmp_path, None, 4)
    save(tmp_path / "A" / "HR" / "a.png", 8, 8)
    with pytest.raises(UserError, match="B: no such set; --sets takes A"):
        open_sets(tmp_path, ["B"], 4)
    save(tmp_path / "A" / "LRx4" / "b.png", 2, 2)
    with pytest.raises(UserError, match="LRx4: a is missing"):
        open_sets(tmp_path, None, 4)


@pytest.mark.parametrize(("height", "width"), [(3, 2), (1, 2), (2, 8)])
def test_an_lr_image_that_does_not_fit_is_named(tmp_path, height, width):
    save(tmp_path / "A" / "HR" / "a.png", 8, 8)
    save(tmp_path / "A" / "LRx4" / "a.png", height, width)
    (image,) = open_sets(tmp_path, None, 4)["A"]
    with pytest.raises(ImageError, match=r"LRx4.a\.png.*not 4 times as many"):
        image.load()
