"""Engines, against the Keras model."""

import argparse
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tensorflow as tf

from srgan_tf import Upscaler
from srgan_tf.errors import UserError
from srgan_tf.export.saved_model import write_saved_model
from srgan_tf.export.tflite import convert
from srgan_tf.images import to_levels
from srgan_tf.inference import engine, litert
from srgan_tf.inference.engine import open_engine
from srgan_tf.inference.keras import KerasEngine
from srgan_tf.models import SRResNet


def test_one_graph_for_all_sizes():
    traces = []

    class Counting(SRResNet):
        def features(self, inputs, training=False):
            traces.append(inputs.shape)
            return super().features(inputs, training)

    model = Counting(4, 1, 8)
    model.build()
    engine = KerasEngine(model)
    for size in (5, 6, 7):
        engine(np.zeros((1, size, size + 1, 3), np.float32))
    assert len(traces) == 1


def test_tensorflow_is_chosen_only_if_it_has_a_gpu(tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "_DEVICES", tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    gpus = ["a GPU"]
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: gpus)
    assert not engine._tensorflow_has_gpu()
    (tmp_path / "nvidiactl").touch()
    assert not engine._tensorflow_has_gpu()
    (tmp_path / "nvidia1").touch()  # a container may have only the second one
    assert engine._tensorflow_has_gpu()
    gpus.clear()  # TensorFlow without CUDA
    assert not engine._tensorflow_has_gpu()


def test_a_wrong_name_is_named_before_tensorflow_is_missed(monkeypatch):
    def missing(purpose):
        raise AssertionError(purpose)

    monkeypatch.setattr(engine, "require_tensorflow", missing)
    with pytest.raises(UserError, match="srgan-vgg45: no such weights, did you mean srgan-vgg54"):
        open_engine("srgan-vgg45")


def test_a_gpu_without_memory_is_a_memory_error(generator, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")

    lr = np.zeros((1, 8, 8, 3), np.float32)
    keras = KerasEngine(generator)
    monkeypatch.setattr(keras, "_features", fail)
    write_saved_model(generator, tmp_path / "1", "tiny", 100 * 100)
    saved = open_engine(tmp_path)
    monkeypatch.setattr(saved, "_loaded", argparse.Namespace(signatures={"serving_default": fail}))
    for each in (keras, saved):
        with pytest.raises(MemoryError, match="OOM"):
            each(lr)


@pytest.fixture(scope="module")
def generator():
    """A ×2 generator of radius 12, bilinear upscaling with noise on the weights."""
    model = SRResNet(2, 1, 8)
    model.build()
    rng = np.random.default_rng(0)
    for variable in model.trainable_variables:
        variable.assign(variable.numpy() + rng.normal(0, 0.01, variable.shape))
    return model


@pytest.fixture(scope="module")
def photo():
    y, x = np.mgrid[:70, :90]
    levels = np.stack([2 * y + 60, 2 * x + 40, 200 - 2 * y], axis=-1)
    levels[(y // 9 + x // 7) % 2 > 0] //= 2
    return levels.astype(np.uint8)


@pytest.fixture(scope="module")
def expected(generator, photo):
    return to_levels(KerasEngine(generator)(photo[None] / np.float32(255))[0])


@pytest.fixture
def small_tiles(monkeypatch):
    monkeypatch.setattr(litert, "_TILE", 20)
    monkeypatch.setattr(litert, "_FEATURES_TILE", 24)
    monkeypatch.setattr(litert, "UPSAMPLE_TILE", 16)


def grey_levels(path, photo, expected):
    """Return the largest difference of an Upscaler's result, in grey levels."""
    return np.abs(Upscaler(path).upscale(photo).astype(int) - expected).max()


@pytest.mark.parametrize("mode", ["float32", "float16"])
def test_tflite_in_parts_and_tiles(small_tiles, generator, photo, expected, tmp_path, mode):
    path = tmp_path / "tiny.tflite"
    path.write_bytes(convert(generator, mode, "tiny"))
    assert open_engine(path).tile == 24
    assert grey_levels(path, photo, expected) <= 1


def test_the_parts_share_their_weights_with_the_whole(generator):
    both, whole = (len(convert(generator, "float32", "tiny", size)) for size in (None, (24, 24)))
    assert both - whole < 2 * generator.count_params()  # 4 bytes each


@pytest.mark.parametrize("size", [(48, 40), (120, 100)])
def test_tflite_in_tiles(generator, photo, expected, tmp_path, size):
    """A photo below the fixed size is padded by repeating its border, not by zeros."""
    path = tmp_path / "tiny.tflite"
    path.write_bytes(convert(generator, "float32", "tiny", size))
    if size == (120, 100):
        inner = (slice(0, 2 * (70 - 12)), slice(0, 2 * (90 - 12)))
        result = Upscaler(path).upscale(photo)
        assert np.abs(result[inner].astype(int) - expected[inner]).max() <= 1
    else:
        assert grey_levels(path, photo, expected) <= 1


def test_threads_share_an_engine(generator, tmp_path):
    path = tmp_path / "tiny.tflite"
    path.write_bytes(convert(generator, "float32", "tiny"))
    upscaler = Upscaler(path)
    photos = [np.full((9 + n, 12, 3), 20 * n, np.uint8) for n in range(8)]
    alone = [upscaler.upscale(photo) for photo in photos]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(upscaler.upscale, photos * 6))
    for index, result in enumerate(together):
        np.testing.assert_array_equal(result, alone[index % 8])


def test_a_folder_with_brackets_in_its_name(generator, photo, expected, tmp_path):
    write_saved_model(generator, tmp_path / "a [1]" / "tiny" / "1", "tiny")
    assert grey_levels(tmp_path / "a [1]" / "tiny", photo, expected) <= 1


def test_a_fixed_size_without_room_for_the_overlap(generator, photo, expected, tmp_path):
    path = tmp_path / "tiny.tflite"
    path.write_bytes(convert(generator, "float32", "tiny", (20, 20)))
    result = Upscaler(path).upscale(photo)
    assert np.abs(result.astype(int) - expected).mean() < 1


def test_int8_takes_8_and_16_bits(small_tiles, generator, photo, expected, tmp_path):
    path = tmp_path / "tiny.tflite"
    calibration = [photo[None, :, :70].astype(np.float32) / 255]
    path.write_bytes(convert(generator, "int8", "tiny", None, calibration))
    upscaler = Upscaler(path)
    assert np.abs(upscaler.upscale(photo).astype(int) - expected).mean() < 2
    deep = upscaler.upscale(photo.astype(np.uint16) * 257)
    assert np.abs(deep / 257 - expected).mean() < 2


def test_saved_models_get_tiles_within_their_limit(generator, photo, expected, tmp_path):
    for version, limit in (
        (2, 10),
        (10, 50 * 50),
    ):  # the highest number wins
        write_saved_model(generator, tmp_path / "tiny" / str(version), "tiny", limit)
    assert grey_levels(tmp_path / "tiny", photo, expected) <= 1
    assert grey_levels(tmp_path / "tiny" / "10", photo, expected) <= 1


def test_files_that_are_not_models(tmp_path, generator):
    text = tmp_path / "text.tflite"
    text.write_text("not a model, but long enough to hold some offsets, perhaps " * 9)
    (tmp_path / "empty.tflite").touch()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "saved_model.pb").touch()
    for name, words in (
        ("text.tflite", "not a .tflite file"),
        ("empty.tflite", "not a .tflite file"),
        ("none.tflite", "No such file"),
        ("other", "did not write"),
        ("grpc://", "grpc://HOST:8500/NAME"),
    ):
        with pytest.raises(UserError, match=words):
            open_engine(name if name == "grpc://" else tmp_path / name)


def test_a_tflite_file_of_another_program(generator, tmp_path):
    path = tmp_path / "other.tflite"
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [tf.function(lambda x: x + 1.0).get_concrete_function(tf.TensorSpec([1, 4, 4, 3]))]
    )
    path.write_bytes(converter.convert())
    with pytest.raises(UserError, match=r"srgan export` did not write"):
        open_engine(path)
