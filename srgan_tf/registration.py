"""Registration of the generators with Keras, without importing it."""

from __future__ import annotations

import importlib.abc
import sys
from importlib.machinery import PathFinder
from types import ModuleType


def register_with_keras() -> None:
    """Make `keras.models.load_model` find this project's classes, once Keras is imported.

    Their modules import Keras and TensorFlow, which takes seconds and is not needed without Keras.
    """
    if "keras" in sys.modules:
        _register(sys.modules["keras"])
    else:
        sys.meta_path.insert(0, _KerasFinder())


class _KerasFinder(importlib.abc.MetaPathFinder):
    """A finder that registers the classes when the import of Keras ends."""

    def find_spec(self, fullname, path=None, target=None):
        spec = PathFinder.find_spec(fullname, path) if fullname == "keras" else None
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_register(module: ModuleType) -> None:
                execute(module)
                _register(module)

            spec.loader.exec_module = execute_and_register  # type: ignore[method-assign]
        return spec


def _register(keras: ModuleType) -> None:
    if keras.backend.backend() == "tensorflow":
        import srgan_tf.models  # noqa: F401
