"""`srgan upscale-batch` as a user runs it, with worker processes."""

import importlib.util
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from test_images import pixels
from test_upscale import PROGRAM, files

from srgan_tf import cli, images

needs_beam = pytest.mark.skipif(
    importlib.util.find_spec("apache_beam") is None,
    reason="needs Apache Beam: pip install -e '.[beam]'",
)


def run(command, *arguments):
    words = [*PROGRAM, command, *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
@needs_beam
def test_two_processes_give_the_results_of_upscale(weights, tmp_path):
    source, out = tmp_path / "in", tmp_path / "out"
    for index, channels in enumerate((1, 2, 3, 4)):
        for dtype in (np.uint8, np.uint16):
            name = f"sub{index}/{np.dtype(dtype)}.png"
            images.write_image(source / name, pixels(channels, dtype, 20 + 9 * index, 40))
    for suffix in (".JPG", ".webp", ".tif", ".bmp"):
        images.write_image(source / f"a{suffix}", pixels(3, np.uint8, 33, 21), dpi=(300, 300))
    assert run("upscale", source, "-o", tmp_path / "expected", "--model", weights).returncode == 0
    (source / "empty.png").touch()
    words = (source, "-o", out, "--model", weights, "--workers", 2)
    done = run("upscale-batch", *words)
    assert done.returncode == 1, done.stderr
    assert done.stdout.startswith("12 files enlarged to 0.1 megapixels in ")
    assert done.stdout.endswith("s; 0 existed already; 1 failed\n")
    assert f"{source}/empty.png: an empty file\n" in done.stderr
    assert "Traceback" not in done.stderr and "Prism" not in done.stderr
    assert files(out) == sorted([*files(tmp_path / "expected"), "failures.jsonl"])
    for name in files(tmp_path / "expected"):
        assert (out / name).read_bytes() == (tmp_path / "expected" / name).read_bytes()


@pytest.mark.slow
@needs_beam
@pytest.mark.skipif(os.name != "posix", reason="needs process groups")
def test_ctrl_c_prints_one_line(tmp_path):
    source, out = tmp_path / "in", tmp_path / "out"
    for index in range(60):
        images.write_image(source / f"{index}.png", pixels(3, np.uint8, 120, 120))
    words = ["upscale-batch", source, "-o", out, "--model", "srgan-mobile", "--tile", 64]
    process = subprocess.Popen(
        [*PROGRAM, *map(str, words)], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    deadline = time.monotonic() + 300
    while not list(out.glob("*.png")):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    _, messages = process.communicate(timeout=60)
    assert process.returncode == 130
    assert messages == "Stopped; run the same command again to continue\n"


@pytest.mark.slow
@needs_beam
def test_a_killed_job_can_be_continued(tmp_path):
    source, out = tmp_path / "in", tmp_path / "out"
    for index in range(60):
        images.write_image(source / f"{index}.png", pixels(3, np.uint8, 120, 120))
    # Each photo is a group of its own.
    words = ["upscale-batch", source, "-o", out, "--model", "srgan-mobile", "--tile", 64]
    process = subprocess.Popen([*PROGRAM, *map(str, words)], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while len(list(out.glob("*.png"))) < 3:
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    time.sleep(5)  # until the worker processes have noticed
    finished = {path: path.stat().st_mtime_ns for path in out.glob("*.png")}
    assert 3 <= len(finished) < 60
    done = run(*words)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{60 - len(finished)} files enlarged to ")
    assert f"; {len(finished)} existed already; 0 failed" in done.stdout
    assert files(out) == files(source)
    assert not [path for path in out.iterdir() if path.is_dir()]
    assert {path: path.stat().st_mtime_ns for path in finished} == finished


def test_without_beam(weights, tmp_path, monkeypatch, capsys):
    for name in list(sys.modules):
        if name.startswith(("apache_beam", "srgan_tf.inference.beam.")):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    with pytest.raises(SystemExit) as caught:
        cli.main(["upscale-batch", str(tmp_path), "-o", str(tmp_path / "out")])
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "error: upscale-batch needs Apache Beam: pip install 'srgan-tf[beam]'"


@needs_beam
def test_wrong_requests(tmp_path, capsys):
    for arguments, words in (
        (["nothing"], "nothing: no such file or folder"),
        ([str(tmp_path), "--workers", "2", "--", "--runner=FlinkRunner"], "--workers is for"),
    ):
        with pytest.raises(SystemExit) as caught:
            cli.main(["upscale-batch", "-o", str(tmp_path / "out"), *arguments])
        assert caught.value.code == 2
        assert words in capsys.readouterr().err.splitlines()[-1]
    assert not list(tmp_path.iterdir())
