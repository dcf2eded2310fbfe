"""The five TensorFlow Lite modes in LiteRT."""

import re

import flatbuffers
import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from srgan_tf.export import MODES, tflite
from srgan_tf.export.metadata import with_metadata
from srgan_tf.export.tflite import convert
from srgan_tf.inference.litert import ModelInfo, read_model_info
from srgan_tf.models import ECBSR

# Largest and mean difference to the Keras model, in grey levels.
CLOSE = {
    "float32": (0.01, 0.01),
    "float16": (1.0, 0.3),
    "dynamic": (16.0, 2.0),
    "int8": (16.0, 1.0),
    "int16x8": (4.0, 0.3),  # 0.6 if each weight were rounded to the nearest level
}


@pytest.fixture(scope="module")
def calibration(photo):
    return [np.stack([photo, photo[::-1], photo[:, ::-1]]).astype(np.float32) / 255]


@pytest.fixture(scope="module")
def models(generator, calibration):
    return {mode: convert(generator, mode, "tiny", None, calibration) for mode in MODES}


def run(model, photo):
    """Enlarge uint8 [H, W, 3] to grey levels, float [2·H, 2·W, 3], as the metadata says."""
    interpreter = Interpreter(model_content=model)
    (given,), (wanted,) = interpreter.get_input_details(), interpreter.get_output_details()
    interpreter.resize_tensor_input(given["index"], [1, *photo.shape])
    interpreter.allocate_tensors()
    lr = photo if given["dtype"] == np.uint8 else photo.astype(np.float32) / 255
    interpreter.set_tensor(given["index"], lr[None])
    interpreter.invoke()
    sr = interpreter.get_tensor(wanted["index"])[0]
    return sr.astype(float) if sr.dtype == np.uint8 else sr * 255.0


@pytest.mark.parametrize("mode", MODES)
def test_results_are_those_of_the_keras_model(models, generator, photo, mode):
    """At sizes that are chosen at run time."""
    for lr in (photo, photo[:17, :23]):
        result = generator(lr[None].astype(np.float32) / 255)[0].numpy()
        difference = np.abs(run(models[mode], lr) - np.clip((result + 1) * 127.5, 0, 255))
        largest, mean = CLOSE[mode]
        assert difference.max() <= largest + 0.5 and difference.mean() <= mean


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("activation", ["prelu", "leaky_relu", "relu"])
def test_ecbsr_is_integers_only_in_int8(calibration, photo, activation, mode):
    keras.utils.set_random_seed(0)
    generator = ECBSR(2, 1, 8, activation=activation)
    generator.build()
    rng = np.random.default_rng(0)
    for variable in generator.trainable_variables:
        variable.assign(variable.numpy() + rng.normal(0, 0.01, variable.shape))
    model = convert(generator, mode, "mobile", None, calibration)
    result = generator(photo[None].astype(np.float32) / 255)[0].numpy()
    difference = np.abs(run(model, photo) - np.clip((result + 1) * 127.5, 0, 255))
    largest, mean = CLOSE[mode]
    assert difference.max() <= largest + 0.5 and difference.mean() <= mean
    interpreter = Interpreter(model_content=model)
    names = [operation["op_name"] for operation in interpreter._get_ops_details()]
    if mode == "int8":  # ReLU is part of the convolutions
        operations = {"prelu": {"MUL", "MAXIMUM"}, "leaky_relu": {"LEAKY_RELU"}, "relu": set()}
        common = {"QUANTIZE", "CONV_2D", "ADD", "DEPTH_TO_SPACE"}
        assert set(names) - {"DELEGATE"} == common | operations[activation]
        assert names.count("QUANTIZE") == 2  # uint8 in and out


@pytest.mark.parametrize("mode", ["float32", "float16", "dynamic"])
def test_prelu_is_one_operation_in_float(models, generator, mode):
    operations = Interpreter(model_content=models[mode])._get_ops_details()
    names = [operation["op_name"] for operation in operations]
    assert names.count("PRELU") == generator.blocks + 2 and "MAXIMUM" not in names


def test_int8_has_integer_inputs_outputs_and_convolutions(models):
    interpreter = Interpreter(model_content=models["int8"])
    for (details,) in (interpreter.get_input_details(), interpreter.get_output_details()):
        assert details["dtype"] == np.uint8
        scale, zero = details["quantization"]
        assert scale == pytest.approx(1 / 255) and zero == 0
    convolutions = [op for op in interpreter._get_ops_details() if op["op_name"] == "CONV_2D"]
    tensors = {t["index"]: t["dtype"] for t in interpreter.get_tensor_details()}
    kinds = [tensors[op["inputs"][0]] for op in convolutions]
    # The first layer, whose large centre taps are a separate kernel, is in float.
    assert kinds == [np.float32] * 2 + [np.int8] * (len(kinds) - 2)


@pytest.mark.parametrize("mode", ["dynamic", "int8", "int16x8"])
def test_weights_take_8_bits(models, generator, mode):
    interpreter = Interpreter(model_content=models[mode])
    weights = [
        t
        for t in interpreter.get_tensor_details()
        if t["dtype"] == np.int8 and len(t["shape"]) == 4 and t["shape"][1] > 1
    ]
    kernels = [t["shape"].prod() for t in weights if len(t["quantization_parameters"]["scales"])]
    assert sum(kernels) > 0.5 * generator.count_params()


def test_a_fixed_input_size(generator, calibration):
    for mode in ("float32", "int16x8"):
        model = convert(generator, mode, "tiny", (24, 16), calibration)
        (details,) = Interpreter(model_content=model).get_input_details()
        assert details["shape_signature"].tolist() == [1, 24, 16, 3]


@pytest.mark.parametrize("mode", MODES)
def test_model_info(models, generator, mode):
    info = read_model_info(models[mode])
    assert (info.name, info.mode, info.scale) == ("tiny", mode, 2)
    assert info.radius == generator.features_radius + generator.upsample_radius
    assert re.fullmatch(r"\d+\.\d+.*", info.version)


def test_standard_metadata_follows_its_schema(models):
    """Read slot by slot by metadata_schema.fbs, as TFLite Support and MediaPipe do."""
    from ai_edge_litert.tools import flatbuffer_utils

    tree = flatbuffer_utils.read_model_from_bytearray(bytearray(models["int8"]))
    (entry,) = [m for m in tree.metadata if m.name in (b"TFLITE_METADATA", "TFLITE_METADATA")]
    content = bytes(tree.buffers[entry.buffer].data)
    assert content[4:8] == b"M001"
    root = flatbuffers.table.Table(
        content, flatbuffers.encode.Get(flatbuffers.packer.uoffset, content, 0)
    )
    text = lambda table, slot: table.String(table.Offset(4 + 2 * slot) + table.Pos)  # noqa: E731

    def child(table, slot, index=None):
        position = table.Offset(4 + 2 * slot)
        if index is None:
            return flatbuffers.table.Table(content, table.Indirect(table.Pos + position))
        return flatbuffers.table.Table(content, table.Indirect(table.Vector(position) + 4 * index))

    def floats(table, slot):
        position = table.Offset(4 + 2 * slot)
        start, count = table.Vector(position), table.VectorLen(position)
        return np.frombuffer(content, "<f4", count, start).tolist()

    assert text(root, 0) == b"tiny" and b"int8" in text(root, 1)
    subgraph = child(root, 3, 0)
    for slot, name in ((2, b"image"), (3, b"enlarged")):
        tensor = child(subgraph, slot, 0)
        assert text(tensor, 0) == name
        stats = child(tensor, 5)
        assert floats(stats, 0) == [255.0] * 3 and floats(stats, 1) == [0.0] * 3


def test_metadata_changes_nothing_else(models, photo):
    info = ModelInfo("other", "float32", 2, 9, "1.0")
    again = with_metadata(models["float32"], info, uint8=False)
    np.testing.assert_array_equal(run(again, photo), run(models["float32"], photo))


def test_16_bit_shuffle_is_depth_to_space():
    x = tf.random.stateless_uniform([1, 3, 5, 24], [0, 0])
    np.testing.assert_array_equal(tflite._shuffle_by_transposing(x, 2), tf.nn.depth_to_space(x, 2))


def test_wrong_requests(generator):
    with pytest.raises(ValueError, match="mode must be one of"):
        convert(generator, "int4", "tiny")
    with pytest.raises(ValueError, match="needs photos"):
        convert(generator, "int8", "tiny")
