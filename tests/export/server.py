"""A server with TensorFlow Serving's REST and gRPC interfaces, which runs a SavedModel.

It follows TensorFlow Serving's documentation: RESTful API (tensorflow.org/tfx/serving/api_rest:
predict in columnar format, `b64` objects for binary values, outputs whose names end in `_bytes` are
binary, a single output has no name, errors are {"error": …}) and prediction_service.proto.
"""

import base64
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

NAME = "tiny"


class Server:
    """A server of both protocols on free ports.

    Attributes:
        rest, grpc: URLs of the model.
        calls: signatures called.
        busy: number of requests to refuse next, as an overloaded server does.
        delay: seconds before each answer.
    """

    def __init__(self, folder):
        self.calls, self.busy, self.delay = [], 0, 0.0
        self._signatures = tf.saved_model.load(str(folder))
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        threading.Thread(target=self._http.serve_forever, daemon=True).start()
        self.rest = f"http://127.0.0.1:{self._http.server_address[1]}/{NAME}"
        self._grpc = grpc.server(ThreadPoolExecutor(2), options=[("grpc.so_reuseport", 0)])
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
            _Servicer(self), self._grpc
        )
        self.grpc = f"grpc://127.0.0.1:{self._grpc.add_insecure_port('127.0.0.1:0')}/{NAME}"
        self._grpc.start()

    def stop(self):
        self._http.shutdown()
        self._http.server_close()
        self._grpc.stop(None).wait()

    def refuses(self):
        time.sleep(self.delay)
        self.busy -= 1
        return self.busy >= 0

    def spec(self, signature):
        """Return the TensorSpecs of a signature's inputs. Raises KeyError."""
        return self._signatures.signatures[signature].structured_input_signature[1]

    def run(self, signature, inputs):
        self.calls.append(signature)
        outputs = self._signatures.signatures[signature](**inputs)
        return {key: value.numpy() for key, value in outputs.items()}


def _handler(server):
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if server.refuses():
                self._answer(503, {"error": "busy"})
                return
            if self.path != f"/v1/models/{NAME}:predict":
                self._answer(404, {"error": "Servable not found for request"})
                return
            try:
                signature = body.get("signature_name", "serving_default")
                specs = server.spec(signature)
                inputs = {
                    key: tf.constant(_from_json(value), specs[key].dtype)
                    for key, value in body["inputs"].items()
                }
                outputs = server.run(signature, inputs)
            except (tf.errors.InvalidArgumentError, KeyError) as error:
                self._answer(400, {"error": str(error)})
                return
            rows = {
                key: [{"b64": base64.b64encode(item).decode()} for item in value]
                if key.endswith("_bytes")
                else value.tolist()
                for key, value in outputs.items()
            }
            self._answer(200, {"outputs": next(iter(rows.values())) if len(rows) == 1 else rows})

        def _answer(self, status, content):
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    return Handler


def _from_json(value):
    if isinstance(value, list):
        return [_from_json(item) for item in value]
    return base64.b64decode(value["b64"]) if isinstance(value, dict) else value


class _Servicer(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, server):
        self._server = server

    def Predict(self, request, context):  # noqa: N802
        if self._server.refuses():
            context.abort(grpc.StatusCode.UNAVAILABLE, "busy")
        if request.model_spec.name != NAME:
            context.abort(grpc.StatusCode.NOT_FOUND, "Servable not found for request")
        inputs = {key: tf.constant(tf.make_ndarray(v)) for key, v in request.inputs.items()}
        try:
            outputs = self._server.run(request.model_spec.signature_name, inputs)
        except tf.errors.InvalidArgumentError as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, error.message)
        response = predict_pb2.PredictResponse()
        for key, value in outputs.items():
            response.outputs[key].CopyFrom(tf.make_tensor_proto(np.asarray(value)))
        return response
