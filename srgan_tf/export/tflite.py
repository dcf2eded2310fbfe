"""Conversion of generators to TensorFlow Lite models, in float or 8 bits."""

from __future__ import annotations

import importlib.metadata
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
import tensorflow as tf

from srgan_tf.export import MODES
from srgan_tf.export.graph import (
    Graph,
    inference_graph,
    prelu_operation,
    split_before_shuffle,
    with_low_slopes,
)
from srgan_tf.export.quantize import FakeQuantGraph, float_layers, measure_ranges, round_weights
from srgan_tf.inference.litert import ENLARGE, FEATURES, UPSAMPLE, ModelInfo, require_litert
from srgan_tf.models import Generator

# Modes that need calibration photos.
CALIBRATED = ("dynamic", "int8", "int16x8")

Function = Callable[[tf.Tensor], tf.Tensor]


def convert(
    generator: Generator,
    mode: str,
    name: str,
    size: tuple[int, int] | None = None,
    calibration: Sequence[np.ndarray] = (),
    rounded: Graph | None = None,
) -> bytes:
    """Convert a generator to the content of a .tflite file, with metadata.

    Args:
        generator: an SRResNet or ECBSR.
        mode: number format of weights and arithmetic:
            float32;
            float16: 16-bit weights, float32 arithmetic;
            dynamic: 8-bit weights, activations are rounded to 8 bits on the fly;
            int8: integer arithmetic, uint8 [1, H, W, 3] in and [1, scale·H, scale·W, 3] out;
            int16x8: 8-bit weights and 16-bit activations.
            Except for int8, inputs and outputs are float32 in [0, 1].
            Without a fixed size the first three have two more signatures, `to_features` and
            `upsample`, with the same weights: for large photos, see `LiteRTEngine`.
        name: of the generator, for the metadata.
        size: (height, width) of the input; None for any size, chosen at run time.
        calibration: LR photos, float32 [N, H, W, 3] in [0, 1], on which dynamic, int8 and int16x8
            round weights, and the last two measure ranges.
        rounded: the result of `rounded_graph` for these photos, which several modes can share.

    Raises:
        UserError: another generator, or ai-edge-litert is missing.
        ValueError: dynamic, int8 or int16x8 without photos, or another mode.
    """
    if mode not in MODES:
        raise ValueError(f"mode must be one of {', '.join(MODES)}, not {mode}")
    if mode in CALIBRATED and not len(calibration):
        raise ValueError(f"{mode} needs photos to calibrate on")
    require_litert()
    from srgan_tf.export.metadata import with_metadata

    if mode in CALIBRATED:
        graph = rounded or rounded_graph(generator, calibration)
    else:
        graph = inference_graph(generator)
    shape = (*(size or (None, None)), 3)
    signatures = {}
    enlarge: Function
    if mode == "int8":
        # Flipping the sign of a channel that carries a colour would double its range.
        graph = with_low_slopes(graph, keep=float_layers(graph))
        enlarge = FakeQuantGraph(graph, measure_ranges(graph, calibration))  # clips too
    elif mode == "int16x8":
        enlarge = _clipped(partial(with_low_slopes(graph), shuffle=_shuffle_by_transposing))
    else:
        enlarge = _clipped(partial(graph, prelu=prelu_operation))
        low_and_high = None if size else split_before_shuffle(graph)
        if low_and_high:
            low, high = (partial(part, prelu=prelu_operation) for part in low_and_high)
            channels = low_and_high[1].layers[0].kernel.shape[2]
            signatures = {
                FEATURES: _signature(low, shape, output_name="features"),
                UPSAMPLE: _signature(_clipped(high), (None, None, channels), input_name="features"),
            }
    model = _convert(signatures | {ENLARGE: _signature(enlarge, shape)}, mode, calibration, shape)
    version = importlib.metadata.version("srgan-tf")
    info = ModelInfo(name, mode, graph.scale, graph.radius, version, graph.upsample_radius)
    return with_metadata(model, info, uint8=mode == "int8")


def rounded_graph(generator: Generator, calibration: Sequence[np.ndarray]) -> Graph:
    """Return a generator's 8-bit graph with weights rounded on photos; takes half a minute."""
    return round_weights(inference_graph(generator, eight_bit=True), calibration)


def _convert(
    signatures: dict,
    mode: str,
    calibration: Sequence[np.ndarray],
    shape: tuple[int | None, ...],
) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(tf.Module(), folder, signatures)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, list(signatures))
        if mode != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if mode == "float16":
            converter.target_spec.supported_types = [tf.float16]
        elif mode == "int8":
            converter.inference_input_type = converter.inference_output_type = tf.uint8
        elif mode == "int16x8":
            converter.target_spec.supported_ops = [
                tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
            ]
            converter.representative_dataset = lambda: _single_photos(calibration, shape[:2])
        return converter.convert()


def _signature(
    function: Function,
    shape: tuple[int | None, ...],
    input_name: str = "image",
    output_name: str = "enlarged",
):
    """Return a concrete function of float32 [1, *shape] with named input and output."""
    return tf.function(
        lambda x: {output_name: function(x)},
        input_signature=[tf.TensorSpec([1, *shape], tf.float32, input_name)],
        autograph=False,
    ).get_concrete_function()


def _clipped(graph: Function) -> Function:
    return lambda image: tf.clip_by_value(graph(image), 0.0, 1.0)


def _shuffle_by_transposing(x: tf.Tensor, factor: int) -> tf.Tensor:
    """Compute `depth_to_space` by operations that support 16 bits, in at most four dimensions."""
    shape = tf.shape(x)
    height, width, channels = shape[1], shape[2], x.shape[3] // factor**2
    x = tf.reshape(x, [height, width, factor, factor * channels])
    x = tf.transpose(x, [0, 2, 1, 3])
    return tf.reshape(x, [1, factor * height, factor * width, channels])


def _single_photos(
    photos: Sequence[np.ndarray], size: tuple[int | None, ...]
) -> Iterator[list[np.ndarray]]:
    """Yield single photos, repeated or cropped to the size of the model's input."""
    for photo in np.concatenate(photos):
        for axis, length in enumerate(size):
            if length is not None:
                photo = np.take(photo, np.arange(length), axis, mode="wrap")
        yield [photo[None]]
