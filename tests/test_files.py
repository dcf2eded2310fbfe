"""Finding photos and writing files."""

import os
import stat
from pathlib import Path

import pytest

from srgan_tf.errors import UserError
from srgan_tf.files import (
    Output,
    TensorFlowPath,
    atomic_folder,
    atomic_write,
    escape_non_utf8,
    find_images,
    is_folder,
    write_text,
)


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def found(folder, **options):
    paths = [(p.relative_to(folder).as_posix(), why) for p, why in find_images(folder, **options)]
    return [p for p, why in paths if why is None], [(p, why) for p, why in paths if why]


def test_images_are_files_with_an_image_suffix(tmp_path):
    for name in ("b.png", "a.JPG", "sub [1]/c.tif", "d.txt", "._a.JPG", ".partial-1.png"):
        touch(tmp_path / name)
    touch(tmp_path / "album.png" / "e.webp")
    touch(tmp_path / ".partial-0123" / "f.png")  # of a killed upscale-batch
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "null.png").symlink_to("/dev/null")
    assert found(tmp_path) == (["a.JPG", "album.png/e.webp", "b.png", "sub [1]/c.tif"], [])


def test_links_are_followed_but_not_in_circles(tmp_path):
    touch(tmp_path / "elsewhere" / "a.png")
    folder = tmp_path / "in"
    touch(folder / "sub" / "b.png")
    (folder / "link").symlink_to("../elsewhere")
    (folder / "c.png").symlink_to("../elsewhere/a.png")
    (folder / "sub" / "up").symlink_to("..")
    (folder / "gone.png").symlink_to("nowhere")
    images, problems = found(folder)
    assert images == ["c.png", "link/a.png", "sub/b.png"]
    assert problems == [("gone.png", "can't be read: No such file or directory")]


@pytest.mark.parametrize("spelling", ["in/out", "in/../in/out", "link/out", "in/other"])
def test_the_folder_of_results_is_skipped_by_any_spelling(tmp_path, monkeypatch, spelling):
    touch(tmp_path / "in" / "a.png")
    touch(tmp_path / "in" / "out" / "b.png")
    (tmp_path / "link").symlink_to("in")
    (tmp_path / "in" / "other").symlink_to("out")
    monkeypatch.chdir(tmp_path)
    assert found(tmp_path / "in", results=Path(spelling)) == (["a.png"], [])


def test_a_folder_that_cannot_be_read_is_named(tmp_path, locked_folders):
    touch(tmp_path / "locked" / "a.png")
    touch(tmp_path / "z.png")
    images, problems = found(tmp_path)
    assert (images, problems) == (["z.png"], [("locked", "can't be read: Permission denied")])


def test_paths_are_folders_files_or_missing(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert is_folder(tmp_path) is True
    assert is_folder(touch(tmp_path / "a")) is False
    assert is_folder(tmp_path / "b") is None and is_folder(tmp_path / "a" / "b") is None
    with pytest.raises(UserError, match="pipe: a pipe or device"):
        is_folder(tmp_path / "pipe")
    with pytest.raises(UserError, match="too long"):
        is_folder(tmp_path / ("x" * 300))


def test_names_that_are_not_utf_8(tmp_path):
    name = os.fsdecode(b"caf\xe9.png")
    touch(tmp_path / name)
    assert found(tmp_path)[0] == [name]
    assert escape_non_utf8(name) == "caf\\xe9.png" and escape_non_utf8("café.png") == "café.png"


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_a_file_has_the_umasks_mode_where_chmod_fails(tmp_path, monkeypatch, umask, mode):
    def refuse(*_, **__):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "chmod", refuse)
    monkeypatch.setattr(Path, "chmod", refuse)
    before = os.umask(umask)
    try:
        with atomic_write(tmp_path / "a.txt") as temporary:
            temporary.write_text("whole")
        with atomic_write(tmp_path / "secret", mode=0o600) as temporary:
            assert stat.S_IMODE(temporary.stat().st_mode) == 0o600
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == mode
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "secret"]


def test_an_interrupted_write_leaves_the_old_file(tmp_path):
    (tmp_path / "a.txt").write_text("before")
    with pytest.raises(KeyboardInterrupt), atomic_write(tmp_path / "a.txt") as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "before"


def test_a_folder_appears_complete_or_not_at_all(tmp_path):
    folder = tmp_path / "new" / "folder"
    with pytest.raises(KeyboardInterrupt), atomic_folder(folder) as unfinished:
        touch(unfinished / "a")
        raise KeyboardInterrupt
    with atomic_folder(folder, mode=0o700) as unfinished:
        touch(unfinished / "b")
        assert not folder.exists()
    assert list(folder.parent.rglob("*")) == [folder, folder / "b"]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_tensorflow_gets_no_glob_characters(tmp_path):
    assert TensorFlowPath(tmp_path / "plain").path == tmp_path / "plain"
    folder = tmp_path / "runs [1]*"
    seen = TensorFlowPath(folder)
    assert not set("[]*?") & set(str(seen.path))
    touch(seen.path / "a")
    assert (folder / "a").is_file()


@pytest.mark.parametrize(
    ("format", "name", "result"),
    [
        (None, "a/b.JPG", "a/b-x4.JPG"),
        (None, "a/b.avif", "a/b-x4.png"),
        (None, "b.HEIC", "b-x4.png"),
        ("jpg", "b.heic", "b-x4.jpg"),
        ("jpg", "b.jpeg", "b-x4.jpeg"),
        ("png", "b.jpeg", "b-x4.png"),
    ],
)
def test_names_of_results(format, name, result):
    """AVIF and HEIC are read but not written."""
    assert Output(format, suffix="-x4").name(name) == result


def test_text_files_are_written_at_once_with_their_mode(tmp_path):
    file = tmp_path / "new" / "a.txt"
    write_text(file, "×4\n", mode=0o600)
    assert file.read_bytes() == "×4\n".encode() and file.stat().st_mode & 0o077 == 0
    assert list(file.parent.iterdir()) == [file]
