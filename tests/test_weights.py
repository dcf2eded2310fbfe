"""Finding and loading generators."""

import hashlib
import io
import json

import keras
import numpy as np
import pytest
import skimage.data
from PIL import Image

from srgan_tf import Upscaler, weights
from srgan_tf.errors import UserError
from srgan_tf.models import ECBSR, Discriminator, SRResNet
from srgan_tf.weights import (
    CARD_FILE,
    GENERATOR_FILE,
    find_generator,
    find_litert,
    generator_title,
    load_generator,
    released,
)

LR = np.random.default_rng(0).uniform(0, 1, (1, 8, 8, 3)).astype(np.float32)


@pytest.fixture
def generator():
    model = SRResNet(2, blocks=1, filters=3)
    model.build()
    return model


@pytest.fixture
def release(tmp_path, monkeypatch, generator):
    """A folder of releases with one generator."""
    monkeypatch.setattr(weights, "_FOLDER", tmp_path / "released")
    (tmp_path / "released").mkdir()
    generator.save(tmp_path / "released" / "srresnet-mse.keras")
    return tmp_path / "released" / "srresnet-mse.keras"


def test_a_released_name_is_found(release):
    assert released() == ["srresnet-mse"]
    assert find_generator("srresnet-mse") == release


def test_a_file_and_a_run_folder_are_found(tmp_path, generator):
    file = tmp_path / GENERATOR_FILE
    generator.save(file)
    (tmp_path / CARD_FILE).write_text("{}")
    assert find_generator(file) == find_generator(str(tmp_path)) == file


def test_a_path_without_its_suffix_is_no_released_name(release, tmp_path, generator):
    generator.save(tmp_path / "mine.keras")
    (tmp_path / "mine.tflite").touch()
    with pytest.raises(UserError, match="mine: no such weights"):
        find_generator(tmp_path / "mine")
    assert find_litert(tmp_path / "mine") is None


def test_titles(release, tmp_path, generator):
    assert generator_title("srresnet-mse") == "srresnet-mse"
    files = {"a/b.keras": "b", "runs/mine/gan-2/generator.keras": "mine-gan-2"}
    files |= {"runs/gan/pretrain/generator.keras": "gan-pretrain", "own/generator.keras": "own"}
    for name, title in files.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True)
        generator.save(file)
        assert generator_title(file) == title
        if file.name == GENERATOR_FILE:
            assert generator_title(str(file.parent)) == title


def test_the_error_of_a_missing_name_suggests_the_nearest(release):
    with pytest.raises(UserError, match=r"did you mean srresnet-mse\?.*srgan train --stage"):
        find_generator("srresnet_mse")
    release.unlink()
    with pytest.raises(UserError, match=r"srresnet-mse: no such weights.*none yet"):
        find_generator("srresnet-mse")


def test_a_folder_without_a_generator_is_refused(tmp_path):
    with pytest.raises(UserError, match="has its run ended"):
        find_generator(tmp_path)
    for file in ("gan-1/generator.keras", "a.tflite", "mine/1/saved_model.pb"):
        (tmp_path / file).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / file).touch()
    models = ", ".join(str(tmp_path / name) for name in ("a.tflite", "gan-1", "mine/1"))
    with pytest.raises(UserError) as error:
        find_generator(tmp_path)
    assert str(error.value).endswith(f"in this folder; give one of {models}")


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b"])
def test_a_name_that_cannot_be_a_path_is_refused(name):
    with pytest.raises(UserError, match=r"can't be read|no such weights"):
        find_generator(name)


def test_loading_gives_the_same_function(tmp_path, generator):
    generator.save(tmp_path / GENERATOR_FILE)
    np.testing.assert_array_equal(load_generator(tmp_path)(LR), generator(LR))


def test_loading_gives_float32_whatever_was_saved(tmp_path):
    mixed = SRResNet(2, blocks=1, filters=4, dtype="mixed_bfloat16")
    mixed.build()
    mixed.save(tmp_path / GENERATOR_FILE)
    loaded = load_generator(tmp_path)
    assert loaded.dtype_policy.name == loaded.head.dtype_policy.name == "float32"
    for a, b in zip(loaded.get_weights(), mixed.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_files_that_hold_no_generator_are_refused(tmp_path):
    (tmp_path / "text.keras").write_text("not a model")
    with pytest.raises(UserError, match=r"text\.keras: can't be read as a Keras model"):
        load_generator(tmp_path / "text.keras")
    other = Discriminator(2, 4)
    other.build((None, 16, 16, 3))
    other.save(tmp_path / "other.keras")
    with pytest.raises(UserError, match="contains a Discriminator, not a generator"):
        load_generator(tmp_path / "other.keras")
    keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(1)]).save(
        tmp_path / "foreign.keras"
    )
    with pytest.raises(UserError, match="not a generator"):
        load_generator(tmp_path / "foreign.keras")


def test_a_run_folder_has_precedence_over_a_release_but_other_folders_do_not(
    release, generator, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "released" / "srresnet-mse.tflite").touch()
    folder = tmp_path / "srresnet-mse"
    folder.mkdir()
    assert find_generator("srresnet-mse").parent == tmp_path / "released"
    assert find_litert("srresnet-mse") == tmp_path / "released" / "srresnet-mse.tflite"
    generator.save(folder / GENERATOR_FILE)
    assert find_generator("srresnet-mse").resolve() == folder / GENERATOR_FILE
    assert find_litert("srresnet-mse") is None


@pytest.mark.parametrize("name", released())
def test_the_litert_model_of_a_release_gives_the_same_picture(name):
    """They differ by at most one level; `python tools/release_litert.py` writes the models."""
    if not isinstance(load_generator(name), SRResNet | ECBSR):
        assert find_litert(name) is None
        return
    photo = skimage.data.astronaut()[40:88, 180:240]
    keras_result, litert_result = (
        Upscaler(name, engine=engine).upscale(photo).astype(int)
        for engine in ("tensorflow", "litert")
    )
    assert np.abs(keras_result - litert_result).max() <= 1


@pytest.mark.parametrize("name", released())
def test_every_release_loads_and_is_the_file_on_its_card(name):
    file = find_generator(name)
    assert file.stat().st_size <= 7_000_000
    card = json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))
    if "sha256" in card:
        assert hashlib.sha256(file.read_bytes()).hexdigest() == card["sha256"]
    model = load_generator(name)
    assert model.scale == card["scale"]
    outputs = model(LR)
    assert outputs.shape == (1, 8 * model.scale, 8 * model.scale, 3)
    assert np.all(np.isfinite(outputs))


@pytest.mark.parametrize("level", [32, 128, 220])
def test_srgan_photo_leaves_a_flat_jpeg_flat(level):
    file = io.BytesIO()
    Image.new("RGB", (48, 48), (level, level, level)).save(file, "jpeg", quality=75)
    lr = np.asarray(Image.open(file))
    sr = Upscaler("srgan-photo", engine="litert").upscale(lr)
    inner = sr[16:-16, 16:-16]  # near the border the zeros that pad LR show
    assert np.abs(inner.astype(int) - int(lr[0, 0, 0])).max() <= 2
