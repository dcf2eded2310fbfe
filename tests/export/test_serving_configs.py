"""The files in serving/ fit the default result of `srgan export --saved-model`."""

from pathlib import Path

import yaml
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from srgan_tf.weights import DEFAULT_MODEL

SERVING = Path(__file__).parents[2] / "serving"


def test_the_default_export_is_mounted_and_served():
    service = yaml.safe_load((SERVING / "compose.yaml").read_text())["services"]["serving"]
    mounts = dict(volume.removesuffix(":ro").split(":") for volume in service["volumes"])
    flags = dict(argument.removeprefix("--").split("=") for argument in service["command"])
    inside = {flag: Path(path) for flag, path in flags.items() if path.startswith("/config/")}
    assert mounts["."] == "/config" and len(inside) == 2
    assert all((SERVING / path.name).is_file() for path in inside.values())
    config = text_format.Parse(
        (SERVING / inside["model_config_file"].name).read_text(),
        model_server_config_pb2.ModelServerConfig(),
    )
    (model,) = config.model_config_list.config
    assert model.name == DEFAULT_MODEL and model.model_platform == "tensorflow"
    assert mounts[f"../exports/{model.name}/{model.name}"] == model.base_path
