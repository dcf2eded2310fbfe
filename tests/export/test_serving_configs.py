"""The files in serving/ fit each other, the export's folders and TensorFlow Serving's messages."""

from pathlib import Path

import yaml
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

SERVING = Path(__file__).parents[2] / "serving"


def test_models_are_where_the_compose_file_mounts_them():
    config = text_format.Parse(
        (SERVING / "models.config").read_text(), model_server_config_pb2.ModelServerConfig()
    )
    (model,) = config.model_config_list.config
    assert model.model_platform == "tensorflow"
    service = yaml.safe_load((SERVING / "compose.yaml").read_text())["services"]["serving"]
    mounts = dict(volume.split(":")[:2] for volume in service["volumes"])
    # export.py's default: exports/NAME/NAME/VERSION.
    assert mounts[f"../exports/{model.name}/{model.name}"] == model.base_path
    assert mounts["."] == "/config"


def test_files_that_the_compose_file_names_are_there():
    service = yaml.safe_load((SERVING / "compose.yaml").read_text())["services"]["serving"]
    files = [
        argument.split("=/config/")[1] for argument in service["command"] if "/config/" in argument
    ]
    assert sorted(files) == ["batching.config", "models.config", "monitoring.config"]
    assert all((SERVING / file).is_file() for file in files)
