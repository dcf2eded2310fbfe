"""The SavedModel, loaded by TensorFlow and by saved_model_cli."""

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tensorflow_serving.apis import prediction_log_pb2

from srgan_tf.errors import UserError
from srgan_tf.export.saved_model import MAX_FILES, read_servable_info, write_saved_model


@pytest.fixture(scope="module")
def loaded(saved_model):
    return tf.saved_model.load(str(saved_model))


def encoded(pixels, kind="PNG", **options):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def test_float_tensors(loaded, generator, photo):
    lr = np.stack([photo, photo[::-1]]).astype(np.float32) / 255
    outputs = loaded.signatures["serving_default"](images=tf.constant(lr))
    expected = np.clip((generator(lr).numpy() + 1) / 2, 0, 1)
    assert list(outputs) == ["enlarged"]
    np.testing.assert_allclose(outputs["enlarged"], expected, atol=1e-5)


def test_grey_levels(loaded, generator, photo):
    outputs = loaded.signatures["uint8"](images=tf.constant(photo[None]))
    sr = generator(photo[None].astype(np.float32) / 255).numpy()
    expected = np.rint(np.clip((sr + 1) * 127.5, 0, 255)).astype(np.uint8)
    assert outputs["enlarged"].dtype == tf.uint8
    assert np.abs(outputs["enlarged"].numpy().astype(int) - expected).max() <= 1


def test_files_of_several_sizes(loaded, photo):
    tall = photo[:, :17]
    contents = [encoded(photo), encoded(tall, "JPEG", quality=95), encoded(photo[..., 0])]
    outputs = loaded.signatures["image_bytes"](image_bytes=tf.constant(contents))
    results = [np.asarray(Image.open(io.BytesIO(b))) for b in outputs["enlarged_bytes"].numpy()]
    assert [r.shape for r in results] == [(60, 80, 3), (60, 34, 3), (60, 80, 3)]
    for content, result in zip(contents, results, strict=True):
        pixels = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
        whole = loaded.signatures["uint8"](images=tf.constant(pixels[None]))["enlarged"][0]
        assert np.abs(result.astype(int) - whole.numpy()).max() <= 1


@pytest.mark.parametrize("count", [2, 5])
def test_alone_or_in_a_batch_the_result_is_the_same(loaded, photo, count):
    # The limit is on each image, not on the five together.
    lr = tf.constant(np.stack([photo, photo[:, ::-1], *[photo[::-1]] * 3])[:count])
    together = loaded.signatures["uint8"](images=lr)["enlarged"].numpy().astype(int)
    for index in range(count):
        alone = loaded.signatures["uint8"](images=lr[index : index + 1])["enlarged"].numpy()
        assert np.abs(together[index] - alone[0]).max() <= 1


def test_clients_learn_the_limits(loaded, saved_model, generator):
    info = read_servable_info(saved_model)
    assert (info.name, info.scale, info.max_pixels) == ("tiny", 2, 3000)
    assert info.radius == generator.features_radius + generator.upsample_radius
    outputs = loaded.signatures["info"](request=tf.zeros([2], tf.int32))
    told = {key: value.numpy().tolist() for key, value in outputs.items()}
    assert told == {"scale": [2, 2], "radius": [info.radius] * 2, "max_pixels": [3000] * 2}


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((1, 60, 60, 3), "too large"),
        ((0, 9, 0, 3), "without pixels"),
        ((1, 0, 5, 3), "without pixels"),
    ],
)
def test_what_is_too_large_or_empty_is_an_invalid_argument(loaded, shape, words):
    for signature, dtype in (("serving_default", tf.float32), ("uint8", tf.uint8)):
        with pytest.raises(tf.errors.InvalidArgumentError, match=words):
            loaded.signatures[signature](images=tf.zeros(shape, dtype))


def huge_png():
    """Return a valid PNG of 20,000 × 20,000 pixels in 50 kB."""
    content = encoded(np.zeros((20000, 20000), np.uint8) > 0)
    assert len(content) < 100_000
    return content


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not a PNG or JPEG"),
        (b"GIF89a" + bytes(40), "not a PNG or JPEG"),
        (b"\x89PNG\r\n\x1a\n", "truncated"),
        (encoded(np.zeros((9, 9, 3), np.uint8))[:60], "PNG"),
        (encoded(np.zeros((9, 9, 3), np.uint8), "JPEG")[:30], "JPEG"),
        (encoded(np.zeros((55, 55, 3), np.uint8), "JPEG"), "too large"),
        (huge_png(), "too large"),
    ],
)
def test_broken_or_too_large_files_are_invalid_arguments(loaded, photo, content, words):
    with pytest.raises(tf.errors.InvalidArgumentError, match=words):
        loaded.signatures["image_bytes"](image_bytes=tf.constant([encoded(photo), content]))


def test_too_many_files_are_an_invalid_argument(loaded):
    with pytest.raises(tf.errors.InvalidArgumentError, match="at most 64"):
        loaded.signatures["image_bytes"](image_bytes=tf.constant([b""] * (MAX_FILES + 1)))


def test_warm_up_requests_are_those_a_server_replays(loaded, saved_model):
    path = saved_model / "assets.extra" / "tf_serving_warmup_requests"
    seen = []
    for record in tf.data.TFRecordDataset(str(path)):
        request = prediction_log_pb2.PredictionLog.FromString(record.numpy()).predict_log.request
        inputs = {key: tf.make_ndarray(value) for key, value in request.inputs.items()}
        signature = loaded.signatures[request.model_spec.signature_name]
        seen.append((request.model_spec.name, request.model_spec.signature_name))
        signature(**{key: tf.constant(value) for key, value in inputs.items()})
    assert seen == [("tiny", name) for name in ("serving_default", "uint8", "image_bytes")]


def test_weights_are_stored_once(saved_model, generator):
    size = (saved_model / "saved_model.pb").stat().st_size
    assert size < 4 * generator.count_params() + 200_000


@pytest.mark.slow
def test_saved_model_cli_runs_it(saved_model, photo, tmp_path):
    cli = [str(Path(sys.executable).with_name("saved_model_cli"))]
    np.save(tmp_path / "photo.npy", photo[None])
    run = subprocess.run(
        [
            *(*cli, "run", "--dir", saved_model, "--tag_set", "serve", "--signature_def", "uint8"),
            *("--inputs", f"images={tmp_path / 'photo.npy'}", "--outdir", tmp_path),
        ],
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert np.load(tmp_path / "enlarged.npy").shape == (1, 60, 80, 3)


def test_only_a_saved_model_is_replaced(generator, tmp_path, photo):
    folder = tmp_path / "tiny" / "1"
    for limit in (100, 5000):
        write_saved_model(generator, folder, "tiny", limit)
    assert read_servable_info(folder).max_pixels == 5000
    assert [p.name for p in folder.parent.iterdir()] == ["1"]
    (tmp_path / "mine").mkdir()
    with pytest.raises(UserError, match="is not a SavedModel"):
        write_saved_model(generator, tmp_path / "mine", "tiny")
