"""The client, against a server with TensorFlow Serving's protocols."""

import base64
import contextlib
import io
import os
import shutil
import socket
import subprocess
import time

import numpy as np
import pytest
import requests
from PIL import Image
from server import NAME, Server

from srgan_tf import Upscaler
from srgan_tf.errors import ImageError, UserError
from srgan_tf.inference import server as client
from srgan_tf.inference.keras import KerasEngine
from srgan_tf.inference.server import ServerEngine


@pytest.fixture(scope="module")
def server(saved_model):
    server = Server(saved_model)
    yield server
    server.stop()


@pytest.fixture(autouse=True)
def calm(server, monkeypatch):
    monkeypatch.setattr(client, "_FIRST_PAUSE", 0.01)
    server.busy, server.delay = 0, 0.0
    server.calls.clear()


def url(server, protocol, options=""):
    return getattr(server, protocol) + options


protocols = pytest.mark.parametrize("protocol", ["rest", "grpc"])


@protocols
def test_results_equal_the_keras_models(server, generator, photo, protocol):
    """84×84 is too large for one request of 3000 pixels; the tiles join without seams."""
    large = np.tile(photo, (3, 3, 1))[:84, :84]
    expected = KerasEngine(generator)(large[None] / np.float32(255))
    upscaler = Upscaler(url(server, protocol))
    assert upscaler.scale == 2
    difference = upscaler.upscale(large) - np.clip(expected[0] * 255, 0, 255)
    assert np.abs(difference).max() < 1.01
    signature = {"rest": "image_bytes", "grpc": "serving_default"}[protocol]
    assert server.calls[0] == "info" and set(server.calls[1:]) == {signature}
    assert len(server.calls) > 4


@protocols
def test_more_than_8_bits_are_kept(server, generator, protocol):
    fine = np.linspace(0.4, 0.41, 12 * 9 * 3, dtype=np.float32).reshape(1, 12, 9, 3)
    engine = ServerEngine(url(server, protocol))
    np.testing.assert_allclose(2 * engine(fine) - 1, generator(fine), atol=1e-4)


@protocols
def test_requests_to_a_busy_server_are_repeated(server, protocol):
    server.busy = 2
    assert ServerEngine(url(server, protocol, "?retries=2")).scale == 2
    server.busy = 2
    with pytest.raises(UserError, match=r"503: busy|UNAVAILABLE: busy"):
        ServerEngine(url(server, protocol, "?retries=1"))


@protocols
def test_a_slow_server_times_out(server, protocol):
    server.delay = 1.0
    started = time.monotonic()
    with pytest.raises(UserError, match=r"no answer \(.*timed out|DEADLINE_EXCEEDED"):
        ServerEngine(url(server, protocol, "?timeout=0.2&retries=0"))
    assert time.monotonic() - started < 0.9


@protocols
def test_an_unknown_model_and_a_refused_image(server, protocol):
    with pytest.raises(UserError, match="Servable not found"):
        ServerEngine(url(server, protocol).replace(NAME, "other"))
    engine = ServerEngine(url(server, protocol))
    with pytest.raises(UserError, match="too large"):
        engine._server.enlarge(np.zeros((1, 60, 60, 3), np.float32))
    engine.tile = 60
    with pytest.raises(ImageError, match="too large"):
        engine(np.zeros((1, 60, 60, 3), np.float32))


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_no_server(scheme):
    with pytest.raises(UserError, match=r"(?i)(no answer|UNAVAILABLE).*refused"):
        ServerEngine(f"{scheme}://127.0.0.1:{free_port()}/tiny?retries=1")


@pytest.mark.parametrize(
    "wrong",
    [
        "grpc://host/tiny",
        "http://host:8501/tiny?timeout=nan",
        "http://host:8501/tiny?timeout=inf",
        "http://host:8501",
        "grpc://host:port/tiny",
        "http://host:8501/tiny?timeout=soon",
        "http://host:8501/tiny?timeout=0",
        "http://host:8501/tiny?colour=red",
    ],
)
def test_errors_on_urls_have_the_right_form(wrong):
    with pytest.raises(UserError, match="http://HOST:8501/NAME"):
        ServerEngine(wrong)


class Answer:
    ok, status_code = True, 200

    def __init__(self, outputs):
        self.outputs = outputs

    def json(self):
        return {"outputs": self.outputs}


@pytest.mark.parametrize(
    "outputs",
    [[1], "text", None, {"scale": 2}, {"scale": [2], "radius": [10]}, {"scale": [[]]}],
)
def test_a_server_of_another_model_is_refused(monkeypatch, outputs):
    monkeypatch.setattr(requests.Session, "post", lambda *_, **__: Answer(outputs))
    with pytest.raises(UserError, match=r"not TensorFlow Serving's|not a model that srgan export"):
        ServerEngine("https://host/tiny")


def png(*shape):
    file = io.BytesIO()
    Image.fromarray(np.zeros(shape, np.uint8)).save(file, "PNG")
    return {"b64": base64.b64encode(file.getvalue()).decode()}


@pytest.mark.parametrize(
    "outputs",
    [[], ["text"], [{"b64": "!"}], [{"b64": "aGVsbG8="}], [png(16, 18)], [png(9, 9, 3)], None],
)
def test_a_strange_answer_concerns_one_photo(monkeypatch, outputs):
    info = Answer({"scale": [2], "radius": [10], "max_pixels": [3000]})
    monkeypatch.setattr(requests.Session, "post", lambda *_, **__: info)
    engine = ServerEngine("HTTPS://host/tiny")
    monkeypatch.setattr(requests.Session, "post", lambda *_, **__: Answer(outputs))
    with pytest.raises(ImageError, match=r"not TensorFlow Serving's|result has shape"):
        engine(np.zeros((1, 8, 9, 3), np.float32))


def test_a_model_for_too_few_pixels_is_refused(monkeypatch):
    info = Answer({"scale": [2], "radius": [10], "max_pixels": [440]})
    monkeypatch.setattr(requests.Session, "post", lambda *_, **__: info)
    with pytest.raises(UserError, match="--max-pixels of at least 441"):
        ServerEngine("http://host/tiny")


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@protocols
def test_against_tensorflow_model_server(saved_model, generator, photo, protocol, tmp_path):
    """Needs the program, on PATH or named by $TENSORFLOW_MODEL_SERVER."""
    program = os.environ.get("TENSORFLOW_MODEL_SERVER") or shutil.which("tensorflow_model_server")
    if not program:
        pytest.skip("no tensorflow_model_server on PATH or in $TENSORFLOW_MODEL_SERVER")
    rest, grpc = free_port(), free_port()
    config = tmp_path / "models.config"
    config.write_text(
        f'model_config_list {{ config {{ name: "{NAME}" base_path: "{saved_model.parent}" '
        'model_platform: "tensorflow" } }\n'
    )
    address = {"rest": f"http://127.0.0.1:{rest}/{NAME}", "grpc": f"grpc://127.0.0.1:{grpc}/{NAME}"}
    process = subprocess.Popen(
        [program, f"--port={grpc}", f"--rest_api_port={rest}", f"--model_config_file={config}"]
    )
    try:
        upscaler = None
        deadline = time.monotonic() + 60
        while upscaler is None and time.monotonic() < deadline:
            with contextlib.suppress(UserError):
                upscaler = Upscaler(f"{address[protocol]}?retries=0")
            time.sleep(0.2)
        assert upscaler is not None, "the server did not come up"
        expected = KerasEngine(generator)(photo[None] / np.float32(255))
        difference = upscaler.upscale(photo) - np.clip(expected[0] * 255, 0, 255)
        assert np.abs(difference).max() < 1.01
    finally:
        process.terminate()
        process.wait()
