"""Fixtures of all tests: caches in a temporary folder, and the optional folder of real data."""

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

# Not in a fixture, as TensorFlow and tensorflow-datasets read these when they are imported.
_CACHES = tempfile.TemporaryDirectory(prefix="srgan_tf-tests-")
os.environ["SRGAN_TF_CACHE"] = f"{_CACHES.name}/srgan_tf"
os.environ["TFDS_DATA_DIR"] = f"{_CACHES.name}/tensorflow_datasets"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"

settings.register_profile("srgan_tf", derandomize=True, deadline=None, database=None)
settings.load_profile("srgan_tf")


@pytest.fixture
def shared() -> Path:
    """The folder $SRGAN_TF_TEST_DATA, with data/benchmarks/SET/{HR,LRx4} and weights/."""
    folder = os.environ.get("SRGAN_TF_TEST_DATA")
    if not folder:
        pytest.skip("SRGAN_TF_TEST_DATA names no folder with benchmark sets and VGG19 weights")
    return Path(folder)


@pytest.fixture
def locked_folders(monkeypatch) -> None:
    """Make folders whose names end in `locked` unlistable, also for root."""
    scandir = os.scandir

    def refused(path):
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refused)
