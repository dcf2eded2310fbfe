"""The engine of generators on a TensorFlow Serving server, by REST or gRPC."""

from __future__ import annotations

import base64
import io
import time
from collections.abc import Mapping
from typing import Any, Protocol
from urllib.parse import parse_qsl, urlsplit

import numpy as np
import requests
from PIL import Image
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from srgan_tf.errors import ImageError, UserError
from srgan_tf.files import first_line
from srgan_tf.inference.engine import require_serving_api, run_in_tiles, tile_side

TIMEOUT, RETRIES = 60.0, 3
_FIRST_PAUSE = 0.5
_STRANGE = "the answer is not TensorFlow Serving's"
_BUSY = (429, 502, 503, 504)
_FORM = (
    "http://HOST:8501/NAME, https://HOST/NAME or grpc://HOST:8500/NAME, with ?timeout=60&retries=3 "
    "if you like"
)


class AnswerError(UserError):
    """A server's answer to one request is an error, or not that of a generator."""


class ServerEngine:
    """Runs a SavedModel of `srgan export` on a server.

    Photos are sent in tiles of at most the model's size limit: by gRPC as tensors; by REST as PNG
    or, with more than 8 bits per channel, as decimal numbers, which is slow. Requests are repeated
    after pauses that double if the server is busy or unreachable.

    Args:
        url: `http://HOST:8501/NAME`, `https://…` or `grpc://HOST:8500/NAME`, optionally followed by
            `?timeout=60&retries=3`: seconds per request, and the number of repetitions.

    Raises:
        UserError: an invalid URL, no answer, no such model, or a model that `srgan export` did not
            write. Enlarging raises it if there is no answer, and ImageError if the answer is an
            error.
    """

    batched = False

    def __init__(self, url: str):
        address, timeout, retries = _parse(url)
        self._server: _Server
        if address.startswith("grpc://"):
            self._server = _GRPCServer(address, timeout, retries)
        else:
            self._server = _RESTServer(address, timeout, retries)
        info = self._server.predict("info", {"request": np.zeros(1, np.int32)})
        try:
            self.scale, self.radius, max_pixels = (
                int(info[key][0]) for key in ("scale", "radius", "max_pixels")
            )
        except (KeyError, IndexError, TypeError, ValueError):
            raise UserError(f"{url}: not a model that srgan export wrote") from None
        self.tile = tile_side(max_pixels, self.radius)

    def __call__(self, lr: np.ndarray) -> np.ndarray:
        try:
            return run_in_tiles(self._enlarge, lr, self.scale, self.tile, self.radius)
        except AnswerError as error:
            raise ImageError(str(error)) from None

    def _enlarge(self, lr: np.ndarray) -> np.ndarray:
        sr = self._server.enlarge(lr)
        expected = (len(lr), self.scale * lr.shape[1], self.scale * lr.shape[2], 3)
        if sr.shape != expected:
            raise AnswerError(f"the server's result has shape {sr.shape}, not {expected}")
        return sr


class _Server(Protocol):
    def predict(self, signature: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Call a signature."""

    def enlarge(self, lr: np.ndarray) -> np.ndarray:
        """Enlarge float32 [1, H, W, 3] in [0, 1] to [1, scale·H, scale·W, 3] in [0, 1]."""


class _RESTServer:
    def __init__(self, address: str, timeout: float, retries: int):
        base, _, name = address.removesuffix("/").rpartition("/")
        self._url = f"{base.removesuffix('/v1/models')}/v1/models/{name}:predict"
        self._timeout = timeout
        self._session = requests.Session()
        policy = Retry(
            retries,
            backoff_factor=_FIRST_PAUSE,
            status_forcelist=_BUSY,
            allowed_methods=None,  # any: predictions have no side effects
            raise_on_status=False,
            respect_retry_after_header=False,  # it may state hours
        )
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(max_retries=policy))

    def predict(self, signature: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        outputs = self._post(signature, {key: value.tolist() for key, value in inputs.items()})
        try:
            return {key: np.array(value) for key, value in outputs.items()}
        except (AttributeError, ValueError):
            raise AnswerError(f"{self._url}: {_STRANGE}") from None

    def enlarge(self, lr: np.ndarray) -> np.ndarray:
        levels = lr * 255.0
        try:
            if np.abs(levels - np.rint(levels)).max() > 1e-3:
                return np.array(self._post("serving_default", {"images": lr.tolist()}), np.float32)
            png = io.BytesIO()
            Image.fromarray(np.rint(levels[0]).astype(np.uint8)).save(png, "PNG")
            (content,) = self._post("image_bytes", {"image_bytes": [_to_json(png.getvalue())]})
            with Image.open(io.BytesIO(base64.b64decode(content["b64"]))) as enlarged:
                return np.asarray(enlarged)[None] / np.float32(255)
        except UserError:
            raise
        except (ValueError, KeyError, TypeError, OSError):
            raise AnswerError(f"{self._url}: {_STRANGE}") from None

    def _post(self, signature: str, inputs: dict[str, Any]) -> Any:
        """Return the outputs; TensorFlow Serving omits the name of a single one."""
        try:
            answer = self._session.post(
                self._url,
                json={"signature_name": signature, "inputs": inputs},
                timeout=self._timeout,
            )
        except requests.RequestException as error:
            raise UserError(f"{self._url}: no answer ({_cause(error)})") from None
        try:
            content = answer.json()
            if answer.ok:
                return content["outputs"]
            problem = content["error"]
        except (ValueError, KeyError, TypeError):
            problem = _STRANGE
        raise AnswerError(f"{self._url}: {answer.status_code}: {problem}")


class _GRPCServer:
    def __init__(self, address: str, timeout: float, retries: int):
        require_serving_api()
        import grpc
        from tensorflow_serving.apis import prediction_service_pb2_grpc

        self._address, self._timeout = address, timeout
        host, _, self._name = address.removeprefix("grpc://").removesuffix("/").rpartition("/")
        self._channel = grpc.insecure_channel(
            host,
            options=[
                ("grpc.max_receive_message_length", -1),
                ("grpc.max_send_message_length", -1),
            ],
        )
        self._predict = prediction_service_pb2_grpc.PredictionServiceStub(self._channel).Predict
        self._retries = retries

    def predict(self, signature: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        import grpc
        import tensorflow as tf
        from tensorflow_serving.apis import predict_pb2

        request = predict_pb2.PredictRequest()
        request.model_spec.name = self._name
        request.model_spec.signature_name = signature
        for key, value in inputs.items():
            request.inputs[key].CopyFrom(tf.make_tensor_proto(value))
        busy = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED)
        for attempt in range(self._retries + 1):
            try:
                answer = self._predict(request, timeout=self._timeout)
                return {key: tf.make_ndarray(value) for key, value in answer.outputs.items()}
            except grpc.RpcError as error:
                if error.code() not in busy or attempt == self._retries:
                    no_answer = (*busy, grpc.StatusCode.DEADLINE_EXCEEDED)
                    kind = UserError if error.code() in no_answer else AnswerError
                    problem = f"{error.code().name}: {error.details()}"
                    raise kind(f"{self._address}: {problem}") from None
                time.sleep(_FIRST_PAUSE * 2**attempt)
        raise AssertionError("unreachable")

    def enlarge(self, lr: np.ndarray) -> np.ndarray:
        outputs = self.predict("serving_default", {"images": lr})
        if "enlarged" not in outputs:
            raise AnswerError(f"{self._address}: not a model that srgan export wrote")
        return outputs["enlarged"]


def _parse(url: str) -> tuple[str, float, int]:
    """Return (URL without options, timeout in seconds, retries)."""
    try:
        parts = urlsplit(url)
        options = dict(parse_qsl(parts.query, strict_parsing=True)) if parts.query else {}
        timeout = float(options.pop("timeout", TIMEOUT))
        retries = int(options.pop("retries", RETRIES))
        has_port = parts.port is not None or parts.scheme in ("http", "https")
        complete = bool(parts.hostname and has_port and parts.path.strip("/"))
    except ValueError:
        complete = False
    # Infinity and NaN are no timeouts either.
    if not complete or options or not 0 < timeout < 10**6 or retries < 0:
        raise UserError(f"{url}: the URL of a server's model must be {_FORM}")
    return f"{parts.scheme}://{parts.netloc}{parts.path}", timeout, retries


def _to_json(content: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(content).decode()}


def _cause(error: requests.RequestException) -> str:
    """Return the message of the innermost of requests' and urllib3's nested errors."""
    cause = error.args[0] if error.args else error
    cause = getattr(cause, "reason", None) or cause
    return first_line(cause) if isinstance(cause, BaseException) else str(cause)
