"""`srgan upscale` as a user runs it."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from srgan_tf import cli

PROGRAM = [sys.executable, "-c", "from srgan_tf.cli import main; main()"]


@pytest.fixture
def srgan(weights, capsys):
    """Run `srgan upscale` in this process; return the exit code and the lines on stderr."""

    def run(*arguments, model=weights):
        with pytest.raises(SystemExit) as caught:
            cli.main(["upscale", *map(str, arguments), "--model", str(model)])
        return caught.value.code, capsys.readouterr().err.splitlines()

    return run


def photo(path, height=10, width=14):
    path.parent.mkdir(parents=True, exist_ok=True)
    ramp = np.linspace(30, 220, height * width * 3).reshape(height, width, 3)
    Image.fromarray(ramp.astype(np.uint8)).save(path)
    return path


def size(path):
    with Image.open(path) as image:
        return image.size


def files(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_a_file_to_a_file(srgan, tmp_path):
    source = photo(tmp_path / "a.jpg")
    assert srgan(source, "-o", tmp_path / "new" / "b.png") == (0, [])
    assert size(tmp_path / "new" / "b.png") == (28, 20)


def test_a_folder_keeps_its_structure(srgan, tmp_path):
    for name in ("a.png", "sub/b.JPG", "sub/deep/c.webp"):
        photo(tmp_path / "in" / name)
    (tmp_path / "in" / "notes.txt").write_text("not a photo")
    loose = photo(tmp_path / "loose.tif")
    out = tmp_path / "out"
    assert srgan(tmp_path / "in", loose, "-o", out, "--tile", 8, "--self-ensemble") == (0, [])
    assert files(out) == ["a.png", "loose.tif", "sub/b.JPG", "sub/deep/c.webp"]
    assert {size(out / name) for name in files(out)} == {(28, 20)}


def test_bad_files_are_named_and_the_others_done(srgan, tmp_path):
    photo(tmp_path / "in" / "good.png")
    (tmp_path / "in" / "empty.png").touch()
    (tmp_path / "in" / "text.jpg").write_text("not an image")
    truncated = photo(tmp_path / "in" / "truncated.bmp")
    truncated.write_bytes(truncated.read_bytes()[:200])
    code, lines = srgan(tmp_path / "in", "-o", tmp_path / "out")
    assert code == 1
    assert [line.split(": ")[0].rsplit("/", 1)[1] for line in lines] == [
        "empty.png",
        "text.jpg",
        "truncated.bmp",
    ]
    assert files(tmp_path / "out") == ["good.png"]


def test_existing_results_are_skipped_unless_overwritten(srgan, tmp_path):
    for name in ("a.png", "b.png"):
        photo(tmp_path / "in" / name)
    done = tmp_path / "out" / "a.png"
    done.parent.mkdir()
    done.write_text("mine")
    code, lines = srgan(tmp_path / "in", "-o", tmp_path / "out")
    assert (code, lines) == (0, ["existing results skipped: 1 (--overwrite replaces them)"])
    assert done.read_text() == "mine" and size(tmp_path / "out" / "b.png") == (28, 20)
    assert srgan(tmp_path / "in", "-o", tmp_path / "out", "--overwrite") == (0, [])
    assert size(done) == (28, 20)


def test_results_within_the_input_folder_are_not_enlarged_again(srgan, tmp_path):
    photo(tmp_path / "a.png")
    out = tmp_path / "out"
    for _ in range(2):
        assert srgan(tmp_path, "-o", out, "--overwrite") == (0, [])
    assert files(out) == ["a.png"]


def test_odd_names_and_other_files(srgan, tmp_path):
    folder, out = tmp_path / "in", tmp_path / os.fsdecode(b"out [\xe9]")
    name = os.fsdecode(b"caf\xe9 [1].png")
    photo(folder / "album.png" / name)
    Image.fromarray(np.full((10, 14), 9999, np.uint16)).save(folder / "deep.png")
    (folder / "._deep.png").write_bytes(b"\0\5\26\7")
    os.mkfifo(folder / "pipe.png")
    assert srgan(folder, folder / "deep.png", "-o", out) == (0, [])
    assert files(out) == [f"album.png/{name}", "deep.png"]
    assert srgan(folder, "-o", out) == (
        0,
        ["existing results skipped: 2 (--overwrite replaces them)"],
    )


def test_folders_that_cannot_be_read_are_named(srgan, tmp_path, locked_folders):
    photo(tmp_path / "in" / "a.png")
    (tmp_path / "in" / "locked").mkdir()
    code, lines = srgan(tmp_path / "in", "-o", tmp_path / "out")
    assert (code, lines) == (1, [f"{tmp_path}/in/locked: can't be read: Permission denied"])
    assert files(tmp_path / "out") == ["a.png"]


def test_a_home_folder_after_an_equals_sign(srgan, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert srgan(photo(tmp_path / "a.png"), "--out=~/x") == (0, [])
    assert files(tmp_path / "x") == ["a.png"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["missing.png", "-o", "out"], "missing.png: no such"),
        (["nothing", "-o", "out"], "no .png"),
        (["pipe", "-o", "out"], "pipe: a pipe or device"),
        (["x" * 300, "-o", "out"], "File name too long"),
        (["a.png", "-o", "x" * 300], "File name too long"),
        (["a.png", "other/a.png", "-o", "out"], "both be written to"),
        (["a.png", "b.png", "-o", "c.png"], "give a folder"),
        (["other", "-o", "c.png"], "give a folder"),
        (["a.png", "-o", "."], "would replace"),
        (["a.png", "-o", "notes.txt"], "notes.txt: neither"),
        (["a.png", "-o", "out", "--tile", "0"], "at least 1"),
    ],
)
def test_wrong_requests(srgan, tmp_path, monkeypatch, arguments, words):
    for name in ("a.png", "b.png", "other/a.png"):
        photo(tmp_path / name)
    (tmp_path / "nothing").mkdir()
    (tmp_path / "notes.txt").touch()
    os.mkfifo(tmp_path / "pipe")
    before = files(tmp_path)
    monkeypatch.chdir(tmp_path)
    code, lines = srgan(*arguments)
    assert code == 2 and len(lines) == 1
    assert lines[0].startswith("error: ") and words in lines[0]
    assert files(tmp_path) == before


@pytest.mark.parametrize("arguments", [["--tile", "big"], ["--colour"], []])
def test_wrong_options_exit_with_2(srgan, tmp_path, arguments):
    code, lines = srgan(photo(tmp_path / "a.png"), *arguments)
    assert code == 2 and lines[0].startswith("usage: srgan upscale")


def test_an_unknown_model(srgan, tmp_path):
    source = photo(tmp_path / "a.png")
    code, lines = srgan(source, "-o", tmp_path / "out", model=tmp_path / "none.keras")
    assert code == 2 and "no such weights" in lines[0]
    code, lines = srgan(source, "-o", tmp_path / "out", model=source)
    assert code == 2 and "can't be read as a Keras model" in lines[0]


@pytest.mark.parametrize(
    ("model", "options", "words"),
    [
        ("srgan-pohto", [], "did you mean srgan-photo?"),
        ("none.tflite", [], "can't be read"),
        ("espcn", ["--engine", "litert"], "LiteRT runs .tflite files"),
        ("srgan-mobile", ["--tile", 0], "at least 1 pixel"),
    ],
)
def test_a_wrong_request_is_refused_if_all_results_exist(srgan, tmp_path, model, options, words):
    source = photo(tmp_path / "a.png")
    photo(tmp_path / "out" / "a.png")
    code, (line,) = srgan(source, "-o", tmp_path / "out", *options, model=model)
    assert code == 2 and words in line


def test_a_released_generator_needs_no_tensorflow(tmp_path):
    """It does not need the packages of the extra `tensorflow` either."""
    absent = "tensorflow", "scipy", "skimage", "pydantic", "yaml", "matplotlib"
    code = f"import sys; sys.modules.update(dict.fromkeys({absent}))\n"
    code += "from srgan_tf.cli import main; main()"
    command = [sys.executable, "-c", code, "upscale"]
    photo(tmp_path / "a.png")
    arguments = [tmp_path / "a.png", "-o", tmp_path / "b.png"]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert size(tmp_path / "b.png") == (56, 40)


def test_engines_that_cannot_run_the_model(srgan, tmp_path, weights):
    photo(tmp_path / "a.png")
    (tmp_path / "m.tflite").touch()
    for model, engine, words in (
        (weights, "litert", "srgan export --weights"),
        ("espcn", "litert", "srgan export --weights"),
        (tmp_path / "m.tflite", "tensorflow", "a .tflite model runs on LiteRT"),
    ):
        arguments = [tmp_path / "a.png", "-o", tmp_path / "b.png", "--engine", engine]
        code, (line,) = srgan(*arguments, model=model)
        assert code == 2 and words in line


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--scale", "2"], (28, 20)),
        (["--scale", "1.5"], (21, 15)),
        (["--width", "30"], (30, 21)),
        (["--height", "11"], (15, 11)),
        (["--width", "30", "--height", "11"], (15, 11)),
        (["--max-side", "40"], (40, 29)),
        (["--max-side", "400"], (56, 40)),
    ],
)
def test_any_size(srgan, tmp_path, options, expected):
    source = photo(tmp_path / "a.png")
    done = srgan(source, "-o", tmp_path / "out", *options, model="srgan-mobile")
    assert done == (0, [])
    assert size(tmp_path / "out" / "a.png") == expected


def test_wrong_sizes(srgan, tmp_path):
    source = photo(tmp_path / "a.png")
    code, (line,) = srgan(source, "-o", tmp_path / "b.png", "--scale", 2, "--width", 9)
    assert code == 2 and "one way" in line
    code, (line,) = srgan(source, "-o", tmp_path / "b.png", "--max-side", 0)
    assert code == 2 and "max side must be above 0" in line
    code, (line,) = srgan(source, "-o", tmp_path / "b.png", "--height", 41)
    assert code == 1
    assert line == (
        f"{source}: 57×41 is 4.1 times 14×10, and the largest is 2 times; give a smaller size"
    )
    code, (line,) = srgan(source, "-o", tmp_path / "b.png", "--scale", "inf")
    assert code == 2 and "scale must be above 0 and below 10⁹, not inf" in line
    assert not (tmp_path / "b.png").exists()


def test_a_suffix_of_names(srgan, tmp_path):
    photo(tmp_path / "in" / "sub" / "a.png")
    arguments = tmp_path / "in", "-o", tmp_path / "out", "--suffix=-large", "--format", "jpg"
    assert srgan(*arguments) == (0, [])
    assert files(tmp_path / "out") == ["sub/a-large.jpg"]
    assert srgan(*arguments) == (0, ["existing results skipped: 1 (--overwrite replaces them)"])


def test_earlier_results_beside_the_inputs_are_not_inputs(srgan, tmp_path):
    for name in ("a.png", "b.png"):
        photo(tmp_path / name)
    arguments = tmp_path, "-o", tmp_path, "--suffix=-x2"
    assert srgan(*arguments) == (0, [])
    photo(tmp_path / "c.png")
    skipped = ["existing results skipped: 2 (--overwrite replaces them)"]
    assert srgan(*arguments) == (0, skipped)
    assert files(tmp_path) == [f"{name}{x}.png" for name in "abc" for x in ("-x2", "")]
    before = files(tmp_path)
    (tmp_path / "a-x2.png").write_bytes(b"")
    assert srgan(*arguments, "--overwrite") == (0, [])
    assert files(tmp_path) == before and size(tmp_path / "a-x2.png") == (28, 20)
    named = tmp_path / "a-x2.png"  # it may not be a result
    code, lines = srgan(named, *arguments, "--overwrite")
    assert code == 2 and f"{named}: the result would replace an input" in lines[0]
    assert lines[0].endswith("choose another OUT, or another --suffix")


def test_from_stdin_to_stdout(tmp_path):
    source = photo(tmp_path / "a.jpg")
    command = [*PROGRAM, "upscale", "--model", "srgan-mobile"]
    for arguments, kind in (
        (["-", "-o", "-"], "PNG"),
        (["-", "-o", "-", "--format", "webp"], "WEBP"),
        ([source, "-o", "-"], "JPEG"),
        (["-", "-o", tmp_path / "b.tif"], "TIFF"),
    ):
        done = subprocess.run(
            [*command, *arguments], input=source.read_bytes(), capture_output=True
        )
        assert (done.returncode, done.stderr) == (0, b"")
        result = done.stdout or (tmp_path / "b.tif").read_bytes()
        with Image.open(io.BytesIO(result)) as image:
            assert (image.format, image.size) == (kind, (56, 40))


def test_messages_on_piped_photos(srgan, tmp_path, monkeypatch):
    odd, transparent = io.BytesIO(), io.BytesIO()
    Image.new("RGB", (6, 4)).save(odd, "JPEG", icc_profile=b"nonsense")
    Image.new("RGBA", (6, 4)).save(transparent, "PNG")
    for content, out, code, words in (
        (b"xyz", "-", 1, "stdin: not a PNG"),
        (odd.getvalue(), tmp_path / "a.jpg", 0, "warning: stdin: its ICC profile"),
        (transparent.getvalue(), "-", 1, "stdout.jpg: .jpg has no alpha"),
    ):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))
        found, (line,) = srgan("-", "-o", out, "--format", "jpg")
        assert found == code and line.startswith(words)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux")
def test_a_full_disk_behind_stdout(tmp_path):
    source = photo(tmp_path / "a.png")
    message = "stdout or a temporary file: can't be written (No space left on device)"
    prints = """
import argparse
from srgan_tf.cli import common
common.run(argparse.ArgumentParser(), [], lambda arguments: print("Done"))
"""
    for command in (
        [*PROGRAM, "upscale", source, "-o", "-", "--model", "srgan-mobile"],
        [sys.executable, "-c", prints],
    ):
        with Path("/dev/full").open("wb") as full:
            run = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
        assert run.returncode == 2
        assert run.stderr.endswith(f"error: {message}\n") and "Traceback" not in run.stderr


def test_results_in_a_format_that_cannot_be_written(srgan, tmp_path):
    source = photo(tmp_path / "a.png")
    for name in ("b.avif", "b.gif"):
        code, (line,) = srgan(source, "-o", tmp_path / name)
        assert code == 2 and "neither a folder nor a file with one of .png" in line
        assert not (tmp_path / name).exists()


def test_an_empty_name_is_not_the_current_folder(srgan, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    photo(tmp_path / "a.png")
    code, lines = srgan("", "-o", tmp_path / "out")
    assert code == 2 and lines[-1].endswith("argument INPUT: an empty name")
    assert not (tmp_path / "out").exists()


def test_wrong_requests_with_pipes(srgan, tmp_path):
    source = photo(tmp_path / "a.png")
    for arguments, words in (
        ([tmp_path, "-o", "-"], "not a file"),
        ([source, source, "-o", "-"], "give one input"),
        (["-", "-o", tmp_path], "has no name"),
    ):
        code, (line,) = srgan(*arguments)
        assert code == 2 and words in line


@pytest.mark.slow
def test_as_a_process(tmp_path, weights):
    """TensorFlow prints nothing between the lines about bad files."""
    good, bad = photo(tmp_path / "good.png"), tmp_path / "bad.png"
    bad.touch()
    run = subprocess.run(
        [*PROGRAM, "upscale", good, bad, "-o", tmp_path / "out", "--model", weights],
        capture_output=True,
        text=True,
    )
    assert run.returncode == 1 and run.stdout == ""
    assert f"{bad}: an empty file\n" in run.stderr
    assert "Traceback" not in run.stderr
    assert files(tmp_path / "out") == ["good.png"]


def test_a_format_for_all_results(srgan, tmp_path):
    photo(tmp_path / "in" / "a.png")
    photo(tmp_path / "in" / "sub" / "b.JPEG")
    photo(tmp_path / "in" / "c.jfif")
    Image.new("RGBA", (6, 4), (1, 2, 3, 255)).save(tmp_path / "in" / "opaque.bmp")
    assert srgan(tmp_path / "in", "-o", tmp_path / "out", "--format", "jpg") == (0, [])
    assert files(tmp_path / "out") == ["a.jpg", "c.jfif", "opaque.jpg", "sub/b.JPEG"]
    for name in files(tmp_path / "out"):
        with Image.open(tmp_path / "out" / name) as image:
            assert image.format == "JPEG" and image.mode == "RGB"


def test_a_format_that_contradicts_a_name(srgan, tmp_path):
    source = photo(tmp_path / "a.png")
    code, lines = srgan(source, "-o", tmp_path / "b.jpg", "--format", "png")
    assert code == 2 and "--format png" in lines[0]
    code, lines = srgan(source, "-o", tmp_path / "b.png", "--suffix=-x")
    assert code == 2 and "--suffix is for results in a folder" in lines[0]
    code, lines = srgan("-", "-o", tmp_path / "b.png", "--format", "jpg")
    assert code == 2 and "--format jpg" in lines[0]
    photo(tmp_path / "a.jpg")
    code, lines = srgan(source, tmp_path / "a.jpg", "-o", tmp_path / "out", "--format", "webp")
    assert code == 2 and "would both be written" in lines[0]


def test_quality_is_1_to_100(srgan, tmp_path):
    source = photo(tmp_path / "a.jpg", 100, 100)
    sizes = []
    for quality in (20, 95):
        target = tmp_path / f"{quality}.jpg"
        assert srgan(source, "-o", target, "--quality", quality) == (0, [])
        sizes.append(target.stat().st_size)
    assert sizes[0] < sizes[1]
    for bad in ("0", "101", "high"):
        code, lines = srgan(source, "-o", tmp_path / "x.jpg", "--quality", bad)
        assert code == 2 and "must be from 1 to 100" in lines[-1]


def test_metadata_is_kept_or_stripped(srgan, tmp_path):
    exif = Image.Exif()
    exif[0x10F], exif[0x112] = "Maker", 6
    Image.new("RGB", (14, 10)).save(tmp_path / "a.jpg", exif=exif)
    for options, maker in (((), "Maker"), (("--strip-metadata",), None)):
        target = tmp_path / "b.webp"
        assert srgan(tmp_path / "a.jpg", "-o", target, "--overwrite", *options) == (0, [])
        with Image.open(target) as image:
            assert image.size == (20, 28)
            assert image.getexif().get(0x10F) == maker


def test_an_ignored_profile_is_warned_of_once(srgan, tmp_path):
    Image.new("RGB", (6, 4)).save(tmp_path / "a.jpg", icc_profile=b"nonsense")
    code, lines = srgan(tmp_path / "a.jpg", "-o", tmp_path / "out")
    assert code == 0
    assert lines == [f"warning: {tmp_path}/a.jpg: its ICC profile (damaged) is ignored"]


@pytest.mark.slow
def test_any_environment(tmp_path, weights):
    """Keras settings of other projects, no stderr, no stdin, no folder for temporary files."""
    (tmp_path / "keras.json").write_text(
        json.dumps({"backend": "jax", "image_data_format": "channels_first", "floatx": "float16"})
    )
    surroundings = {"KERAS_HOME": str(tmp_path), "KERAS_BACKEND": "torch", "TMPDIR": "/nowhere"}
    command = [*PROGRAM, "upscale", photo(tmp_path / "a.png"), "-o", tmp_path / "b.png"]
    run = subprocess.run(
        [*command, "--model", weights],
        env=os.environ | surroundings,
        preexec_fn=lambda: [os.close(number) for number in (0, 2)],
    )
    assert run.returncode == 0
    assert size(tmp_path / "b.png") == (28, 20)


def test_help_and_names_on_an_ascii_terminal():
    run = subprocess.run(
        [*PROGRAM, "evaluate", "--help"],
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0 and "`_\\u2026`" in run.stdout


def test_a_broken_pipe():
    reader, writer = os.pipe()
    os.close(reader)
    code = "import argparse; from srgan_tf.cli.common import run\n"
    code += "run(argparse.ArgumentParser(), [], lambda arguments: print('Done') or 0)"
    run = subprocess.run([sys.executable, "-c", code], stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert (run.returncode, run.stderr) == (141, b"")


def test_commands_are_ready_for_ctrl_c_at_once():
    # Commands handle it once they are imported, so they must not import slow modules.
    code = "import sys, srgan_tf.cli; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
    assert {"numpy", "PIL", "pydantic", "scipy", "tensorflow"}.isdisjoint(modules.split())


def test_ctrl_c_while_tensorflow_is_imported(tmp_path, weights):
    command = [*PROGRAM, "upscale", photo(tmp_path / "a.png"), "-o", tmp_path / "b.png"]
    process = subprocess.Popen(
        [*command, "--model", weights],
        stderr=subprocess.PIPE,
        # Jobs in the background of a script ignore it, and so do the processes that they start.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    time.sleep(1.5)
    process.send_signal(signal.SIGINT)
    (line,) = process.communicate()[1].splitlines()
    assert line.startswith(b"Stopped")
    assert process.returncode == 130
