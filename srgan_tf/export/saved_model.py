"""SavedModels for TensorFlow Serving, with signatures, warm-up requests and input limits.

A server may batch requests: results don't depend on the rest of a batch, limits apply to each
image, and a large batch is processed image by image, in the memory of one.
"""

from __future__ import annotations

import importlib.metadata
import json
import math
import shutil
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import numpy as np
import tensorflow as tf

from srgan_tf.errors import UserError
from srgan_tf.export.graph import Graph, inference_graph, with_low_slopes
from srgan_tf.files import TensorFlowPath, atomic_folder
from srgan_tf.inference.engine import require_serving_api
from srgan_tf.inference.saved_model import INFO_FILE, ServableInfo
from srgan_tf.models import Generator

# The working memory is about 4 kB per pixel at ×4: 1 GB.
MAX_PIXELS = 2**18
MAX_FILES = 64
_WARM_UP_FILE = Path("assets.extra") / "tf_serving_warmup_requests"
_WARM_UP_SIDE = 64


def write_saved_model(
    generator: Generator,
    folder: Path,
    name: str,
    max_pixels: int = MAX_PIXELS,
) -> None:
    """Write a generator as a SavedModel with signatures for TensorFlow Serving.

    - `serving_default`: `images` float32 [N, H, W, 3] in [0, 1] to `enlarged`
      [N, scale·H, scale·W, 3] in [0, 1];
    - `uint8`: the same with uint8, grey levels;
    - `image_bytes`: `image_bytes`, N encoded PNG or JPEG files (string [N]) of any sizes, to
      `enlarged_bytes`, N PNG files of RGB with 8 bits per channel;
    - `info`: any `request` int32 [N] to `scale`, `radius` and `max_pixels`, int32 [N], which
      clients need to cut tiles (see `ServableInfo`).

    Images that are too large, empty or invalid fail with INVALID_ARGUMENT before memory is
    allocated.

    Args:
        generator: an SRResNet or ECBSR.
        folder: of this version, NAME/1 for a server; an existing SavedModel is replaced.
        name: of the generator.
        max_pixels: largest number of pixels, H·W, of an image.

    Raises:
        UserError: another generator, tensorflow-serving-api is missing, or the folder exists
            and is not a SavedModel.
    """
    require_serving_api()
    if folder.exists() and not (folder / "saved_model.pb").is_file():
        raise UserError(f"{folder}: exists and is not a SavedModel; give another --out")
    graph = with_low_slopes(inference_graph(generator))
    servable = _Servable(graph, max_pixels)
    info = ServableInfo(
        name, graph.scale, graph.radius, max_pixels, importlib.metadata.version("srgan-tf")
    )
    # The temporary name is not a number, so a server that watches the parent ignores it.
    with atomic_folder(folder) as written:
        signatures = {
            "serving_default": servable.enlarge_images,
            "uint8": servable.enlarge_uint8,
            "image_bytes": servable.enlarge_files,
            "info": servable.info,
        }
        link = TensorFlowPath(written)
        tf.saved_model.save(servable, str(link.path), signatures=signatures)
        (written / INFO_FILE).parent.mkdir()
        (written / INFO_FILE).write_text(
            json.dumps(asdict(info), indent=2) + "\n", encoding="utf-8"
        )
        _write_warm_up(written / _WARM_UP_FILE, info)
        with suppress(OSError):  # not all file systems can
            written.chmod(0o755)
        if folder.exists():
            shutil.rmtree(folder)


class _Servable(tf.Module):
    def __init__(self, graph: Graph, max_pixels: int):
        super().__init__()
        self._graph, self._max_pixels = graph, max_pixels

    @tf.function(
        input_signature=[tf.TensorSpec([None, None, None, 3], tf.float32)], autograph=False
    )
    def _enlarge(self, images):
        # All signatures call this function, so the weights are stored once.
        return tf.clip_by_value(self._graph(images), 0.0, 1.0)

    def _enlarge_batch(self, images):
        with tf.control_dependencies(self._check(tf.shape(images)[1:3])):
            images = tf.identity(images)
        return tf.cond(
            # In floating point the product can't overflow.
            tf.reduce_prod(tf.cast(tf.shape(images)[:3], tf.float64)) <= float(self._max_pixels),
            lambda: self._enlarge(images),
            lambda: tf.map_fn(lambda x: self._enlarge(x[None])[0], images, parallel_iterations=1),
        )

    @tf.function(
        input_signature=[tf.TensorSpec([None, None, None, 3], tf.float32, "images")],
        autograph=False,
    )
    def enlarge_images(self, images):
        """Enlarge float32 images; the signature `serving_default`."""
        return {"enlarged": self._enlarge_batch(images)}

    @tf.function(
        input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8, "images")],
        autograph=False,
    )
    def enlarge_uint8(self, images):
        """Enlarge uint8 images; the signature `uint8`."""
        return {"enlarged": _to_uint8(self._enlarge_batch(_to_float(images)))}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "image_bytes")], autograph=False)
    def enlarge_files(self, image_bytes):
        """Enlarge encoded images; the signature `image_bytes`."""
        few_enough = tf.debugging.assert_less_equal(
            tf.size(image_bytes), MAX_FILES, f"at most {MAX_FILES} images per request"
        )
        with tf.control_dependencies([few_enough]):
            # One by one, as they differ in size, and to limit memory.
            files = tf.map_fn(self._enlarge_file, image_bytes, parallel_iterations=1)
        return {"enlarged_bytes": files}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int32, "request")], autograph=False)
    def info(self, request):
        """Return the model's properties; the signature `info`."""
        values = {
            "scale": self._graph.scale,
            "radius": self._graph.radius,
            "max_pixels": self._max_pixels,
        }
        return {name: tf.fill(tf.shape(request), value) for name, value in values.items()}

    def _enlarge_file(self, content):
        header = tf.strings.substr(content, 0, 8)
        is_png = tf.equal(header, b"\x89PNG\r\n\x1a\n")
        is_jpeg = tf.equal(tf.strings.substr(content, 0, 3), b"\xff\xd8\xff")
        known = tf.debugging.assert_equal(is_png | is_jpeg, True, "not a PNG or JPEG image")
        with tf.control_dependencies([known]):
            shape = tf.cond(
                is_png,
                lambda: _png_shape(content),
                lambda: tf.io.extract_jpeg_shape(content)[:2],
            )
        # Before decoding, as a file of some kilobytes can claim gigapixels.
        with tf.control_dependencies(self._check(shape)):
            image = tf.cond(
                is_png,
                lambda: tf.io.decode_png(content, channels=3),
                lambda: tf.io.decode_jpeg(content, channels=3, dct_method="INTEGER_ACCURATE"),
            )
        enlarged = self._enlarge(_to_float(image[None]))[0]
        return tf.io.encode_png(_to_uint8(enlarged))

    def _check(self, sides):
        """Return assertions on (height, width), which fail with INVALID_ARGUMENT."""
        return [
            tf.debugging.assert_positive(sides, "an image without pixels"),
            tf.debugging.assert_less_equal(
                tf.reduce_prod(tf.cast(sides, tf.float64)),
                tf.constant(float(self._max_pixels), tf.float64),
                f"too large: at most {self._max_pixels} pixels per image; send tiles",
            ),
        ]


def _png_shape(content) -> tf.Tensor:
    """Read (height, width) from a PNG's header."""
    complete = tf.debugging.assert_greater_equal(tf.strings.length(content), 24, "a truncated PNG")
    with tf.control_dependencies([complete]):
        sides = tf.strings.substr(content, 16, 8)
    width_height = tf.io.decode_raw(sides, tf.int32, little_endian=False)
    return tf.reverse(tf.ensure_shape(width_height, [2]), [0])


def _to_float(images) -> tf.Tensor:
    return tf.cast(images, tf.float32) / 255.0


def _to_uint8(images) -> tf.Tensor:
    return tf.cast(tf.round(images * 255.0), tf.uint8)


def _write_warm_up(path: Path, info: ServableInfo) -> None:
    """Write one request per signature, which a server runs before it accepts others."""
    from tensorflow_serving.apis import prediction_log_pb2

    side = min(_WARM_UP_SIDE, math.isqrt(info.max_pixels))
    ramp = np.linspace(0, 255, side, dtype=np.uint8)
    photo = np.broadcast_to(ramp[:, None, None], (side, side, 3))
    inputs = {
        "serving_default": ("images", (photo[None] / 255).astype(np.float32)),
        "uint8": ("images", photo[None]),
        "image_bytes": ("image_bytes", np.array([tf.io.encode_png(photo).numpy()])),
    }
    with tf.io.TFRecordWriter(str(path)) as writer:
        for signature, (key, value) in inputs.items():
            log = prediction_log_pb2.PredictionLog()
            request = log.predict_log.request
            request.model_spec.name = info.name
            request.model_spec.signature_name = signature
            request.inputs[key].CopyFrom(tf.make_tensor_proto(value))
            writer.write(log.SerializeToString())
