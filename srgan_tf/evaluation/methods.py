"""Methods to evaluate: interpolation, SelfExSR, generators, HR, and other programs' results."""

from __future__ import annotations

import difflib
import hashlib
import importlib.util
import itertools
import json
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path

import numpy as np

from srgan_tf.errors import ImageError, UserError, install_command
from srgan_tf.evaluation.sets import BenchmarkImage
from srgan_tf.files import escape_non_utf8, is_image_name, named_path, sha256
from srgan_tf.images import read_photo
from srgan_tf.inference.engine import saved_model_folder
from srgan_tf.inference.upscaler import Upscaler
from srgan_tf.native_output import suppress_native_output
from srgan_tf.resize import bicubic_upscale, nearest_upscale
from srgan_tf.weights import own_generator, released, released_generator

LABELS = {
    "nearest": "nearest",
    "bicubic": "bicubic",
    "srcnn": "SRCNN",
    "selfexsr": "SelfExSR",
    "drcn": "DRCN",
    "espcn": "ESPCN",
    "srresnet-mse": "SRResNet-MSE",
    "srresnet-vgg22": "SRResNet-VGG22",
    "srgan-mse": "SRGAN-MSE",
    "srgan-vgg22": "SRGAN-VGG22",
    "srgan-vgg54": "SRGAN-VGG54",
    "srgan-mobile": "SRGAN-mobile",
    "srresnet-photo": "SRResNet-photo",
    "srgan-photo": "SRGAN-photo",
    "srgan-mobile-photo": "SRGAN-mobile-photo",
    "hr": "HR",
}
"""Headings of the named methods, in the order of the tables."""


def default_methods() -> list[str]:
    """Return the names of all methods except SelfExSR, which is slow."""
    further = [name for name in released() if name not in LABELS]
    return [*(name for name in LABELS if name not in ("selfexsr", "hr")), *further, "hr"]


class Method(ABC):
    """A super-resolution method.

    Attributes:
        name: unique key in results.
        label: heading in tables.
        note: a remark for the report; may be empty.
    """

    def __init__(self, name: str):
        self.name, self.label = name, LABELS.get(name, name)
        self.note = ""

    @property
    def details(self) -> dict[str, str]:
        """Further entries for results.json."""
        return {}

    @abstractmethod
    def cache_key(self, image: BenchmarkImage) -> str:
        """Return a string that changes whenever the result for an image may change."""

    @abstractmethod
    def enlarge(self, image: BenchmarkImage, lr: np.ndarray, hr: np.ndarray) -> np.ndarray:
        """Enlarge uint8 [h, w, 3] to uint8 [scale·h, scale·w, 3]. Raises ImageError."""


class Nearest(Method):
    """Nearest-neighbour interpolation."""

    def cache_key(self, image):
        return "nearest"

    def enlarge(self, image, lr, hr):
        return nearest_upscale(lr, image.scale)


class Bicubic(Method):
    """Bicubic interpolation as in MATLAB's `imresize`."""

    def cache_key(self, image):
        return "bicubic"

    def enlarge(self, image, lr, hr):
        return bicubic_upscale(lr, image.scale)


class HighResolution(Method):
    """The HR photo itself, for the best values of the metrics."""

    def cache_key(self, image):
        return "hr"

    def enlarge(self, image, lr, hr):
        return hr


class SelfExSR(Method):
    """SelfExSR (Huang et al. 2015); needs the extra `selfexsr`."""

    def cache_key(self, image):
        return "selfexsr"

    def enlarge(self, image, lr, hr):
        from srgan_tf.selfexsr import MIN_SIDE, upscale

        if min(lr.shape[:2]) < MIN_SIDE:
            raise ImageError(f"SelfExSR needs sides of at least {MIN_SIDE} pixels")
        return upscale(lr, image.scale)


class Model(Method):
    """A generator: a path that `Upscaler` accepts."""

    def __init__(self, name: str, weights: Path):
        super().__init__(name)
        self.weights = weights
        self._opening = threading.Lock()
        self._upscaler: Upscaler | None = None

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the weights."""
        files = [self.weights] if self.weights.is_file() else sorted(self.weights.rglob("*"))
        digest = hashlib.sha256()
        for file in files:
            if file.is_file():
                digest.update(file.read_bytes())
        return digest.hexdigest()

    @property
    def details(self):
        return {"sha256": self.digest}

    @property
    def upscaler(self) -> Upscaler:
        """The upscaler, which the first thread that needs it opens."""
        with self._opening:
            if self._upscaler is None:
                with suppress_native_output():
                    # Released names are evaluated as Keras models.
                    is_litert = self.weights.suffix == ".tflite"
                    engine = "litert" if is_litert else "tensorflow"
                    self._upscaler = Upscaler(self.weights, engine=engine)
            return self._upscaler

    def cache_key(self, image):
        return self.digest

    def enlarge(self, image, lr, hr):
        if self.upscaler.scale != image.scale:
            raise UserError(_wrong_scale(self.name, self.upscaler.scale, image.scale))
        return self.upscaler.upscale(lr)


class Folder(Method):
    """Another program's results, FOLDER/SET/NAME.png, where NAME may be followed by `_…`.

    For degraded LR the set's folder is SET-DEGRADATION.
    """

    def __init__(self, name: str, folder: Path):
        super().__init__(name)
        self.folder = folder

    def cache_key(self, image):
        return sha256(self._file(image))

    def enlarge(self, image, lr, hr):
        file = self._file(image)
        sr = read_photo(file)
        spare = [a - b for a, b in zip(sr.shape[:2], hr.shape[:2], strict=True)]
        if not all(0 <= pixels < image.scale for pixels in spare):
            raise ImageError(
                f"{file}: {sr.shape[1]}×{sr.shape[0]} pixels, not {hr.shape[1]}×{hr.shape[0]}"
            )
        return sr[: hr.shape[0], : hr.shape[1]]

    def _file(self, image: BenchmarkImage) -> Path:
        named = {
            file: escape_non_utf8(file.stem)
            for file in sorted((self.folder / image.set).glob("*"))
            if is_image_name(file.name)
        }
        files = [
            file
            for file, name in named.items()
            if name == image.name or name.startswith(f"{image.name}_")
        ]
        exact = [file for file in files if named[file] == image.name]
        if len(exact or files) != 1:
            found = f"{len(files)} files" if files else "no file"
            raise ImageError(f"{self.folder / image.set}: {found} for {image.name}")
        return (exact or files)[0]


def open_methods(names: list[str] | None, scale: int) -> tuple[list[Method], list[str]]:
    """Open methods by name.

    Args:
        names: keys of `LABELS`, or `NAME=PATH` with a model or a folder of results; None for the
            available ones of `default_methods`.
        scale: required of released generators.

    Returns:
        The methods, and notes for the report, also on unavailable default methods.

    Raises:
        UserError: an unknown name, or a requested method is not available.
    """
    methods: list[Method] = []
    notes = []
    for name in names or default_methods():
        try:
            method = _open(name, scale)
        except UserError as error:
            if names:
                raise
            notes.append(f"{LABELS.get(name, name)} is omitted: {error}.")
            continue
        methods.append(method)
        check_names(methods)
        if method.note:
            notes.append(f"{method.label}: {method.note}")
    if not names:
        notes.append("SelfExSR is omitted, as it is slow; --methods can request it.")
    return methods, notes


def check_names(methods: Iterable[Method]) -> None:
    """Raise UserError if two methods have the same name, or the same one in reports."""
    for one, other in itertools.combinations(methods, 2):
        if one.name == other.name or one.label == other.label:
            raise UserError(f"{other.name}: two methods have this name; rename one with NAME=PATH")


def _open(name: str, scale: int) -> Method:
    simple: dict[str, Callable[[str], Method]] = {
        "nearest": Nearest,
        "bicubic": Bicubic,
        "hr": HighResolution,
    }
    name, path = named_path(name)
    if path is not None:
        return _open_path(name, path)
    if name in simple:
        return simple[name](name)
    if name == "selfexsr":
        if not all(importlib.util.find_spec(package) for package in ("numba", "cv2")):
            raise UserError(f"selfexsr: needs numba and OpenCV: {install_command('selfexsr')}")
        return SelfExSR(name)
    if name not in LABELS and name not in released():
        near = difflib.get_close_matches(name, [*LABELS, *released()], n=1)
        raise UserError(
            f"{name}: no such method"
            + (f", did you mean {near[0]}?" if near else ".")
            + f" Methods are {', '.join(LABELS)}, or NAME=PATH of a model or a folder of results"
        )
    if name not in released():
        raise UserError(f"{name}: not released with this version")
    weights = released_generator(name)
    card = json.loads(weights.with_suffix(".json").read_text(encoding="utf-8"))
    if card["scale"] != scale:
        raise UserError(_wrong_scale(name, card["scale"], scale))
    model = Model(name, weights)
    model.note = card.get("note", "")
    return model


def _wrong_scale(model: str, scale: int, required: int) -> str:
    return f"{model}: enlarges ×{scale}, not ×{required}; use it with --scale {scale}"


def _open_path(name: str, path: Path) -> Method:
    if name in LABELS:
        raise UserError(f"{name}: this name is taken; use another in NAME=PATH")
    if not path.exists():
        raise UserError(f"{name}: {path}: no such model or folder of results")
    if model := own_generator(path) or saved_model_folder(path):
        return Model(name, model)
    return Folder(name, path)
