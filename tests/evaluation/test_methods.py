"""Methods' results, and errors on wrong names."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from srgan_tf import weights
from srgan_tf.errors import ImageError, UserError
from srgan_tf.evaluation import methods
from srgan_tf.evaluation.methods import LABELS, Folder, Model, default_methods, open_methods
from srgan_tf.evaluation.sets import BenchmarkImage
from srgan_tf.models import SRResNet
from srgan_tf.resize import bicubic_upscale
from srgan_tf.weights import released_generator

RNG = np.random.default_rng(0)
LR = RNG.integers(0, 256, (6, 8, 3), dtype=np.uint8)
HR = RNG.integers(0, 256, (24, 32, 3), dtype=np.uint8)


@pytest.fixture
def image(tmp_path):
    return BenchmarkImage("A", "img", tmp_path / "hr.png", tmp_path / "lr.png", 4)


@pytest.fixture
def release(tmp_path, monkeypatch):
    """A folder of releases with a ×4 srgan-mse and a ×2 srcnn."""
    folder = tmp_path / "released"
    folder.mkdir()
    monkeypatch.setattr(weights, "_FOLDER", folder)
    for name, scale in (("srgan-mse", 4), ("srcnn", 2)):
        model = SRResNet(scale, blocks=1, filters=3)
        model.build()
        model.save(folder / f"{name}.keras")
        (folder / f"{name}.json").write_text(json.dumps({"scale": scale}))
    return folder


def test_simple_methods(image):
    (nearest, bicubic, hr), notes = open_methods(["nearest", "bicubic", "hr"], 4)
    assert notes == []
    np.testing.assert_array_equal(nearest.enlarge(image, LR, HR), np.kron(LR, np.ones((4, 4, 1))))
    np.testing.assert_array_equal(bicubic.enlarge(image, LR, HR), bicubic_upscale(LR, 4))
    assert hr.enlarge(image, LR, HR) is HR
    assert len({m.cache_key(image) for m in (nearest, bicubic, hr)}) == 3


def test_the_default_is_the_generators_released_at_this_scale(release):
    opened, notes = open_methods(None, 4)
    assert [m.name for m in opened] == ["nearest", "bicubic", "srgan-mse", "hr"]
    assert "SRCNN is omitted: srcnn: enlarges ×2, not ×4; use it with --scale 2." in notes
    assert "DRCN is omitted: drcn: not released with this version." in notes
    assert any("SelfExSR" in note for note in notes)
    assert set(default_methods()) | {"selfexsr"} == set(LABELS)
    shutil.copy(release / "srgan-mse.keras", release / "new.keras")
    shutil.copy(release / "srgan-mse.json", release / "new.json")
    opened, _ = open_methods(None, 4)
    assert [m.name for m in opened] == ["nearest", "bicubic", "srgan-mse", "new", "hr"]


def test_a_model_enlarges_and_is_known_by_its_weights(release, image, tmp_path):
    (named, filed), _ = open_methods(["srgan-mse", f"mine={release / 'srgan-mse.keras'}"], 4)
    assert isinstance(filed, Model) and filed.name == filed.label == "mine"
    assert named.cache_key(image) == filed.cache_key(image) == named.details["sha256"]
    assert named.enlarge(image, LR, HR).shape == (24, 32, 3)


def test_an_exported_model_enlarges(image):
    path = released_generator("srgan-mobile").with_suffix(".tflite")
    (model,), _ = open_methods([f"mine={path}"], 4)
    assert model.enlarge(image, LR, HR).shape == (24, 32, 3)


def test_a_name_is_the_release_whatever_the_current_folder_contains(
    release, image, tmp_path, monkeypatch
):
    (before,), _ = open_methods(["srgan-mse"], 4)
    own = tmp_path / "here" / "srgan-mse"
    own.mkdir(parents=True)
    (own / "generator.keras").write_bytes(b"unlike the release")
    monkeypatch.chdir(own.parent)
    (named,), _ = open_methods(["srgan-mse"], 4)
    assert named.cache_key(image) == before.cache_key(image)
    assert named.enlarge(image, LR, HR).shape == (24, 32, 3)


def test_a_model_of_another_scale_is_refused(release, image):
    (method,), _ = open_methods([f"mine={release / 'srcnn.keras'}"], 4)
    with pytest.raises(UserError, match="×2, not ×4; use it with --scale 2"):
        method.enlarge(image, LR, HR)


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (["srgan_mse"], "did you mean srgan-mse?"),
        (["zzz"], "zzz: no such method. Methods are nearest, bicubic"),
        (["srgan-vgg54"], "srgan-vgg54: not released with this version"),
        (["srcnn"], "srcnn: enlarges ×2, not ×4; use it with --scale 2"),
        (["bicubic", "bicubic"], "two methods have this name"),
        (["hr", "HR=."], "HR: two methods have this name"),
        (["bicubic=x"], "bicubic: this name is taken"),
        (["=x"], "=x: the name is missing"),
        (["mine="], "mine=: the path is missing; give NAME=PATH"),
        (["mine=~nobody9/x"], "~nobody9/x: no such model or folder"),
        (["mine=nowhere"], "nowhere: no such model or folder"),
    ],
)
def test_errors_on_names_say_what_to_do(release, names, reason):
    with pytest.raises(UserError) as caught:
        open_methods(names, 4)
    assert reason in str(caught.value)


def test_selfexsr_without_numba_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(methods.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"srgan-tf\[selfexsr\]"):
        open_methods(["selfexsr"], 4)


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def test_names_are_not_patterns(tmp_path):
    image = BenchmarkImage("A[1]", "img[12]", tmp_path / "hr.png", tmp_path / "lr.png", 4)
    folder = tmp_path / "theirs [x]"
    save(folder / "A[1]" / "img[12]_out.png", HR)
    save(folder / "A[1]" / "img1.png", LR)
    (method,), _ = open_methods([f"theirs={folder}"], 4)
    np.testing.assert_array_equal(method.enlarge(image, LR, HR), HR)


@pytest.mark.parametrize("file", ["img.png", "img_out.png", "img_SRF_4.bmp"])
def test_results_of_another_program_are_found_by_name(tmp_path, image, file):
    larger = np.pad(HR, ((0, 3), (0, 1), (0, 0)))
    save(tmp_path / "other" / "A" / file, larger)
    save(tmp_path / "other" / "A" / "img2.png", LR)
    (method,), _ = open_methods([f"other={tmp_path / 'other'}"], 4)
    assert isinstance(method, Folder)
    np.testing.assert_array_equal(method.enlarge(image, LR, HR), HR)
    before = method.cache_key(image)
    save(tmp_path / "other" / "A" / file, larger[::-1])
    assert method.cache_key(image) != before


def test_results_that_are_missing_ambiguous_or_of_a_wrong_size_are_named(tmp_path, image):
    folder = tmp_path / "other"
    folder.mkdir()
    method = Folder("other", folder)
    with pytest.raises(ImageError, match="no file for img"):
        method.cache_key(image)
    save(folder / "A" / "img_1.png", LR)
    with pytest.raises(ImageError, match="8×6 pixels, not 32×24"):
        method.enlarge(image, LR, HR)
    save(folder / "A" / "img_2.png", HR)
    with pytest.raises(ImageError, match="2 files for img"):
        method.enlarge(image, LR, HR)
    save(folder / "A" / "img.png", HR)
    np.testing.assert_array_equal(method.enlarge(image, LR, HR), HR)
