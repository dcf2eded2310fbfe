"""LPIPS with AlexNet of random weights, against the formula carried out with TensorFlow."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from srgan_tf import cli
from srgan_tf.errors import ImageError, RequestError
from srgan_tf.evaluation.measures import Lpips

sys.modules.setdefault("triton", None)  # see srgan_tf.evaluation.measures
REASON = "LPIPS needs the extra lpips"
torch = pytest.importorskip("torch", reason=REASON)
torchvision = pytest.importorskip("torchvision", reason=REASON)
torchmetrics = pytest.importorskip("torchmetrics", reason=REASON)

RNG = np.random.default_rng(0)
HR = RNG.integers(0, 256, (67, 90, 3), dtype=np.uint8)
SR = np.clip(HR + RNG.normal(0, 40, HR.shape), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("weights") / "alexnet.pth"
    torch.save(torchvision.models.alexnet().state_dict(), file)
    return file


@pytest.fixture(scope="module")
def measure(weights):
    return Lpips(weights)


def features(image, weights):
    """Unit-length features after each of AlexNet's ReLUs."""
    x = (image[None] / 127.5 - 1 - [-0.030, -0.088, -0.188]) / [0.458, 0.448, 0.450]
    x = tf.cast(x, tf.float32)
    for layer, stride, padding in ((0, 4, 2), (3, 1, 2), (6, 1, 1), (8, 1, 1), (10, 1, 1)):
        if layer in (3, 6):
            x = tf.nn.max_pool2d(x, 3, 2, "VALID")
        x = tf.pad(x, [[0, 0], [padding] * 2, [padding] * 2, [0, 0]])
        kernel = weights[f"features.{layer}.weight"].numpy().transpose(2, 3, 1, 0)
        x = tf.nn.conv2d(x, kernel, stride, "VALID") + weights[f"features.{layer}.bias"].numpy()
        x = tf.nn.relu(x)
        yield x / (tf.norm(x, axis=-1, keepdims=True) + 1e-10)


def test_lpips_is_the_weighted_distance_of_alexnets_features(measure, weights):
    folder = Path(torchmetrics.__file__).parent / "functional" / "image" / "lpips_models"
    linear = torch.load(folder / "alex.pth", "cpu", weights_only=True)
    alexnet = torch.load(weights, weights_only=True)
    expected = sum(
        tf.reduce_mean(
            tf.reduce_sum((a - b) ** 2 * linear[f"lin{i}.model.1.weight"].numpy().ravel(), -1)
        )
        for i, (a, b) in enumerate(zip(features(HR, alexnet), features(SR, alexnet), strict=True))
    )
    expected = float(expected)
    assert expected > 0.01
    for _ in range(2):  # the second is not the mean of both
        assert measure(SR, measure.reference(HR), 4)["lpips"] == pytest.approx(expected, abs=1e-4)
        assert measure(HR, measure.reference(HR), 4)["lpips"] == 0


def test_lpips_is_the_lpips_packages(measure, weights):
    lpips = pytest.importorskip("lpips")
    network = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False)
    alexnet = torch.load(weights, weights_only=True)
    names = network.net.state_dict()  # such as slice2.3.weight for features.3.weight
    network.net.load_state_dict({n: alexnet[f"features.{n.split('.', 1)[1]}"] for n in names})
    a, b = (torch.tensor(x).permute(2, 0, 1)[None] / 127.5 - 1 for x in (HR, SR))
    expected = float(network(a, b).detach())
    assert measure(SR, measure.reference(HR), 4)["lpips"] == pytest.approx(expected, abs=1e-4)


def test_an_image_too_small_for_alexnet_is_named(measure):
    small = HR[:31, :31]
    assert measure(small, small, 4)["lpips"] == 0
    with pytest.raises(ImageError, match="at least 31 pixels"):
        measure(small[:30], small[:30], 4)


def test_a_file_of_another_network_is_named_and_nothing_is_carried_out(tmp_path):
    file = tmp_path / "other.pth"
    folder = torch.hub.get_dir()
    for content in ({"weight": torch.zeros(3)}, [1, 2], Path):
        torch.save(content, file)
        with pytest.raises(RequestError, match=r"other\.pth: not AlexNet's; give torchvision's"):
            Lpips(file)
    file.write_bytes(b"no weights")
    with pytest.raises(RequestError, match="not AlexNet's"):
        Lpips(file)
    assert torch.hub.get_dir() == folder


def test_the_report_has_lpips_and_its_packages(weights, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SRGAN_TF_CACHE", str(tmp_path / "cache"))
    (tmp_path / "data" / "A" / "HR").mkdir(parents=True)
    Image.fromarray(HR).save(tmp_path / "data" / "A" / "HR" / "img.png")
    words = ["evaluate", "--data", tmp_path / "data", "--out", tmp_path / "out", "--vgg", "none"]
    with pytest.raises(SystemExit) as caught:
        cli.main([*map(str, words), "--methods", "bicubic,hr", "--lpips", str(weights)])
    assert caught.value.code == 0, capsys.readouterr().err
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["means"]["A"]["hr"]["lpips"] == 0
    assert results["means"]["A"]["bicubic"]["lpips"] > 0
    assert results["versions"]["torchmetrics"] == torchmetrics.__version__
    assert "| LPIPS |" in (tmp_path / "out" / "report.md").read_text()
    assert (tmp_path / "out" / "plots" / "perception-distortion.png").is_file()
