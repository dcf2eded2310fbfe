"""LPIPS with AlexNet, against the values of the PyTorch package lpips 0.1.4."""

import json

import numpy as np
import pytest
from PIL import Image

from srgan_tf import cli
from srgan_tf.errors import UserError
from srgan_tf.evaluation.lpips import AlexNetLpips
from srgan_tf.evaluation.metrics import Lpips
from srgan_tf.resize import bicubic_downscale, bicubic_upscale

SHAPES = [(11, 11, 3, 64), (5, 5, 64, 192), (3, 3, 192, 384), (3, 3, 384, 256), (3, 3, 256, 256)]


def made_weights():
    rng = np.random.default_rng(0)
    arrays = {}
    for index, shape in enumerate(SHAPES):
        kernel = rng.normal(0, (2 / np.prod(shape[:3])) ** 0.5, shape)
        arrays[f"AlexNet_0.Conv_{index}.kernel"] = kernel.astype(np.float32)
        arrays[f"AlexNet_0.Conv_{index}.bias"] = rng.normal(0, 0.1, shape[3]).astype(np.float32)
        linear = rng.random((1, 1, shape[3], 1)).astype(np.float32)
        arrays[f"NetLinLayer_{index}.Conv_0.kernel"] = linear
    return arrays


def made_photos(height, width):
    y, x = np.mgrid[:height, :width]
    hr = 128 + np.stack([90 * np.sin(x / 9), 70 * np.cos(y / 7), 60 * np.sin((x + y) / 5)], -1)
    noise = np.random.default_rng(1).normal(0, 25, hr.shape)
    return hr.astype(np.uint8), np.clip(hr + noise, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    file = tmp_path_factory.mktemp("weights") / "alexnet.npz"
    np.savez(file, **made_weights())
    return file


@pytest.mark.parametrize(("height", "width", "expected"), [(67, 90, 0.165793), (31, 31, 0.161811)])
def test_lpips_is_the_lpips_packages(weights, height, width, expected):
    hr, sr = made_photos(height, width)
    metric = Lpips(weights)
    reference = metric.reference(hr)
    assert metric(sr, reference, 4) == pytest.approx(expected, rel=1e-4)
    assert metric(hr, reference, 4) == 0


def test_lpips_of_real_photos_is_the_lpips_packages(shared):
    metric = Lpips(shared / "weights" / "alexnet_lpips.npz")
    for name, expected in (("img_001", 0.35051), ("img_003", 0.45300)):
        folder = shared / "data" / "benchmarks" / "Set5"
        hr = Image.open(folder / "HR" / f"{name}.png").convert("RGB")
        lr = Image.open(folder / "LRx4" / f"{name}.png").convert("RGB")
        size = 4 * lr.width, 4 * lr.height
        sr = np.asarray(lr.resize(size, Image.Resampling.NEAREST))
        reference = metric.reference(np.asarray(hr.crop((0, 0, *size))))
        assert metric(sr, reference, 4) == pytest.approx(expected, abs=1e-4)


def test_other_files_are_named(tmp_path):
    file = tmp_path / "other.npz"
    with pytest.raises(UserError, match=r"other\.npz: no such file; docs/evaluation\.md says"):
        AlexNetLpips(file)
    arrays = made_weights()
    wrong = {"AlexNet_0.Conv_1.kernel": arrays["AlexNet_0.Conv_0.kernel"]}
    objects = {"AlexNet_0.Conv_0.kernel": np.array([{}], object)}
    for content in ({}, arrays | wrong, arrays | objects):
        np.savez(file, **content)
        with pytest.raises(UserError, match=r"other\.npz: not AlexNet's weights for LPIPS"):
            AlexNetLpips(file)
    np.save(tmp_path / "other.npy", np.zeros(3))
    for other in (tmp_path / "other.npy", tmp_path / "other.pth"):
        (tmp_path / "other.pth").write_bytes(b"no weights")
        with pytest.raises(UserError, match="not AlexNet's weights for LPIPS"):
            AlexNetLpips(other)


def test_the_report_has_lpips(weights, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SRGAN_TF_CACHE", str(tmp_path / "cache"))
    (tmp_path / "data" / "A" / "HR").mkdir(parents=True)
    photo = made_photos(67, 90)[0]
    Image.fromarray(photo).save(tmp_path / "data" / "A" / "HR" / "img.png")
    words = ["evaluate", "--data", tmp_path / "data", "--out", tmp_path / "out", "--vgg", "none"]
    with pytest.raises(SystemExit) as caught:
        cli.main([*map(str, words), "--methods", "bicubic,hr", "--lpips", str(weights)])
    assert caught.value.code == 0, capsys.readouterr().err
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["means"]["A"]["hr"]["lpips"] == 0
    lpips, hr = AlexNetLpips(weights), photo[:64, :88]
    sr = bicubic_upscale(bicubic_downscale(hr, 4), 4)
    distance = lpips.distance(lpips.features(sr), lpips.features(hr))
    assert results["means"]["A"]["bicubic"]["lpips"] == pytest.approx(distance, abs=1e-5)
    assert "| LPIPS |" in (tmp_path / "out" / "report.md").read_text()
    assert (tmp_path / "out" / "plots" / "perception-distortion.png").is_file()
