"""`export.py` as a user runs it, and `srgan upscale` with the exported models."""

import json

import numpy as np
import pytest
from PIL import Image

from srgan_tf import cli
from srgan_tf.cli import export, main
from srgan_tf.export import fidelity
from srgan_tf.models import SRResNet


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "tiny.keras"
    model = SRResNet(4, blocks=2, filters=8)
    model.build()
    model.save(path)
    return path


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Two pictures with detail that ×4 downscaling loses."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for index in range(2):
        y, x = np.mgrid[:200, :208]
        levels = 120 + 60 * np.sin(x / (5 + index)) * np.cos(y / 7) + rng.normal(0, 15, x.shape)
        pixels = np.stack([levels, levels[::-1], levels[:, ::-1]], axis=-1)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{index}.png")
    return folder


@pytest.fixture
def run(capfd):
    """Run `srgan export` in this process; return the exit code, stdout and the lines on stderr."""

    def run(*arguments):
        with pytest.raises(SystemExit) as caught:
            main(["export", *map(str, arguments)])
        out, err = capfd.readouterr()
        return caught.value.code, out, err.splitlines()

    return run


@pytest.mark.slow
def test_everything_and_each_upscales(run, weights, photos, tmp_path, capfd):
    out = tmp_path / "out"
    code, printed, errors = run(
        *("--weights", weights, "--saved-model", "--tflite", "--out", out),
        *("--photos", photos, "--calibration", "samples"),
    )
    assert (code, errors) == (0, [])
    summary = json.loads((out / "fidelity.json").read_text())
    assert list(summary["modes"]) == [export.SAVED_MODEL, *export.MODES]
    for mode, entry in summary["modes"].items():
        assert entry["passed"] and (out / entry["path"]).exists()
        assert f"\n{mode} " in printed and entry["bytes"] > 10_000
        result = tmp_path / f"{mode}.png"
        with pytest.raises(SystemExit) as caught:
            model = str(out / entry["path"])
            cli.main(["upscale", str(photos / "0.png"), "-o", str(result), "--model", model])
        assert caught.value.code == 0
        assert np.asarray(Image.open(result)).shape == (800, 832, 3)
    assert Image.open(out / "fidelity.png").size[0] == 8 * 160
    assert not list(out.rglob(".partial*"))
    assert "XNNPACK" not in capfd.readouterr().err  # no output of native code


@pytest.mark.slow
def test_the_default_command_is_within_every_tolerance(run, tmp_path, monkeypatch):
    """Export the released generator, and compare on the centres of scikit-image's photos."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(fidelity, "_MAX_SIDE", 256)  # int16x8 is slow
    code, _, errors = run("--tflite", "--saved-model")
    assert (code, errors) == (0, [])
    (file,) = (tmp_path / "exports").glob("*/fidelity.json")
    modes = json.loads(file.read_text())["modes"]
    assert list(modes) == [export.SAVED_MODEL, *export.MODES]
    # With a margin, as other CPUs' kernels round differently.
    for entry in modes.values():
        assert entry["psnr_loss"] < 0.8 * entry["tolerance"].get("psnr_loss", 1)


@pytest.mark.parametrize("place", ["file/out", "n" * 300])
def test_an_out_that_can_t_be_written_is_found_before_the_work(run, tmp_path, monkeypatch, place):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    monkeypatch.setattr("srgan_tf.export.tflite.rounded_graph", None)
    monkeypatch.setattr("srgan_tf.export.tflite.convert", None)
    code, _, errors = run("--tflite", "--weights", "srgan-mobile", "--out", tmp_path / place)
    assert code == 2 and len(errors) == 1
    assert f"{place}: can't be written to (" in errors[0]


def test_a_missed_tolerance_is_named_and_exits_with_1(run, weights, photos, tmp_path):
    out = tmp_path / "out"
    code, printed, errors = run(
        *("--weights", weights, "--tflite", "--quantize", "float32,int8", "--out", out),
        *("--photos", photos, "--tolerance", "int8=-9", "--input-size", "48x40"),
    )
    assert code == 1 and len(errors) == 1
    assert errors[0].startswith("error: int8: ") and "OUTSIDE" in printed
    modes = json.loads((out / "fidelity.json").read_text())["modes"]
    assert modes["int8"]["tolerance"] == {"psnr_loss": -9.0} and not modes["int8"]["passed"]
    assert modes["float32"]["passed"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "nothing to export"),
        (["--saved-model", "--quantize", "int8"], "add --tflite"),
        (["--tflite", "--quantize", "int4"], "no mode 'int4'; use one of float32"),
        (["--tflite", "--input-size", "big"], "must be N or HxW"),
        (["--tflite", "--tolerance", "int9=1"], "must be MODE=DB"),
        (["--tflite", "--weights", "nothing"], "nothing: no such weights"),
        (
            ["--tflite", "--weights", "espcn"],
            "only SRResNet and ECBSR",
        ),
        (["--tflite", "--calibration", "nowhere"], "nowhere: no such folder"),
        (["--tflite", "--photos", "nowhere", "--quantize", "float32"], "nowhere: no such folder"),
        (["--saved-model", "--version", "0"], "--version must be at least 1"),
        (["--saved-model", "--max-pixels", "0"], "--max-pixels must be"),
    ],
)
def test_wrong_requests(run, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    code, _, errors = run(*arguments)
    assert code == 2 and len(errors) == 1 and words in errors[0]
    assert not list(tmp_path.iterdir())
