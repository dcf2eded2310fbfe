"""`srgan upscale` as a user runs it."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from srgan_tf import cli
from srgan_tf.models import SRResNet


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "tiny.keras"
    model = SRResNet(scale=2, blocks=1, filters=4)
    model.build()
    model.save(path)
    return path


@pytest.fixture
def srgan(weights, capsys):
    """Runs `srgan upscale`; returns the exit code and the lines on stderr."""

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


def test_existing_results_are_left_unless_asked(srgan, tmp_path):
    for name in ("a.png", "b.png"):
        photo(tmp_path / "in" / name)
    done = tmp_path / "out" / "a.png"
    done.parent.mkdir()
    done.write_text("mine")
    code, lines = srgan(tmp_path / "in", "-o", tmp_path / "out")
    assert (code, lines) == (0, ["1 were there already; --overwrite replaces them"])
    assert done.read_text() == "mine" and size(tmp_path / "out" / "b.png") == (28, 20)
    assert srgan(tmp_path / "in", "-o", tmp_path / "out", "--overwrite") == (0, [])
    assert size(done) == (28, 20)


def test_results_within_the_input_folder_are_not_enlarged_again(srgan, tmp_path):
    photo(tmp_path / "a.png")
    out = tmp_path / "out"
    for _ in range(2):
        assert srgan(tmp_path, "-o", out, "--overwrite") == (0, [])
    assert files(out) == ["a.png"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["missing.png", "-o", "out"], "missing.png: no such"),
        (["nothing", "-o", "out"], "no .png"),
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


def test_help_needs_no_tensorflow_and_has_examples():
    code = "import sys; from srgan_tf.cli import main\ntry: main(['upscale', '--help'])\n"
    code += "finally: assert 'tensorflow' not in sys.modules"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr
    assert "examples:" in shown.stdout and "--self-ensemble" in shown.stdout


def test_as_a_process(tmp_path, weights):
    """TensorFlow's own messages don't mix with the one line about the bad file."""
    good, bad = photo(tmp_path / "good.png"), tmp_path / "bad.png"
    bad.touch()
    program = [sys.executable, "-c", "from srgan_tf.cli import main; main()"]
    run = subprocess.run(
        [*program, "upscale", good, bad, "-o", tmp_path / "out", "--model", weights],
        capture_output=True,
        text=True,
    )
    assert run.returncode == 1 and run.stdout == ""
    assert f"{bad}: an empty file\n" in run.stderr
    assert "Traceback" not in run.stderr
    assert files(tmp_path / "out") == ["good.png"]
