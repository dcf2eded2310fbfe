"""Packing of training photos."""

import sys

import numpy as np
import pack_photos
import pytest
from PIL import Image


@pytest.fixture
def pack(tmp_path, monkeypatch, capsys):
    """Run the tool on tmp_path/in; return the sizes of its results by name, and what it printed."""

    def run(*arguments, code=0):
        words = ["pack_photos.py", tmp_path / "in", tmp_path / "out", *arguments, "--min-side", 1]
        monkeypatch.setattr(sys, "argv", [str(word) for word in words])
        with pytest.raises(SystemExit) as ended:
            pack_photos.main()
        assert ended.value.code == code
        found = {}
        for path in (tmp_path / "out").rglob("*.*"):
            with Image.open(path) as image:
                found[path.relative_to(tmp_path / "out").as_posix()] = image.size
        return found, capsys.readouterr()

    return run


def save(path, side=40):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((side, side, 3), np.uint8)).save(path)


def test_photos_of_one_name_are_kept(pack, tmp_path):
    for side, name in enumerate(("a.jpg", "a.png", "a.png.jpg", "b.png"), 40):
        save(tmp_path / "in" / name, side)
    found, shown = pack("--scale", 1)
    sizes = {name: width for name, (width, _) in found.items()}
    assert sizes == {"a.jpg": 40, "a.png.jpg": 41, "a.png.jpg.jpg": 42, "b.jpg": 43}
    assert shown.out.startswith("4 photos,") and not shown.err


def test_a_photo_that_can_t_be_read_is_named(pack, tmp_path):
    save(tmp_path / "in" / "a.png")
    (tmp_path / "in" / "bad.png").write_bytes(b"no image")
    found, shown = pack()
    assert list(found) == ["a.jpg"]
    assert shown.out.startswith("1 photos,") and shown.err.startswith("skipped bad.png: ")


def test_a_scale_is_that_of_a_whole_folder(pack, tmp_path):
    for name in ("im/a.png", "im/deep/a.png", "imagenet2/a.png", "im.png"):
        save(tmp_path / "in" / name)
    found, _ = pack("im=0.5", "--scale", 1)
    half, full = (20, 20), (40, 40)
    assert found == {
        "im/a.jpg": half,
        "im/deep/a.jpg": half,
        "imagenet2/a.jpg": full,
        "im.jpg": full,
    }


@pytest.mark.parametrize("scale", ["im", "im=half"])
def test_a_scale_that_is_not_one_is_refused(pack, tmp_path, scale):
    save(tmp_path / "in" / "im" / "a.png")
    found, shown = pack(scale, code=2)
    assert not found and "FOLDER=SCALE" in shown.err and "Traceback" not in shown.err


def test_a_folder_outside_the_photos_is_refused(pack, tmp_path):
    save(tmp_path / "in" / "im" / "a.png")
    found, shown = pack(f"{tmp_path / 'in' / 'im'}=0.5", code=2)
    assert not found and "im: no such folder in" in shown.err
