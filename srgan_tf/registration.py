"""Lets Keras find the generators, without importing it."""

from __future__ import annotations

import importlib.abc
import sys
from importlib.machinery import PathFinder
from types import ModuleType


def register_with_keras() -> None:
    """Makes `keras.models.load_model` find this project's classes, once Keras is imported.

    Their modules import Keras and TensorFlow, which takes seconds: who doesn't use Keras need not
    wait for it.
    """
    if "keras" in sys.modules:
        _register(sys.modules["keras"])
    else:
        sys.meta_path.insert(0, _KerasFinder())


class _KerasFinder(importlib.abc.MetaPathFinder):
    """Finds Keras, and has the classes registered at the end of its import."""

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
