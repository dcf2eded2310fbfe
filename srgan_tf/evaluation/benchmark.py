"""Running methods on benchmark sets and scoring their results, with a cache."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
from tqdm import tqdm

from srgan_tf.cache import cache_folder, writable_cache
from srgan_tf.errors import ImageError, UserError
from srgan_tf.evaluation.methods import Method
from srgan_tf.evaluation.metrics import METRICS, Metric
from srgan_tf.evaluation.sets import BenchmarkImage
from srgan_tf.files import first_line, is_file, write_text
from srgan_tf.images import read_photo, write_image

# Part of every cache key: increase it when the code changes results.
_REVISION = 3
# Packages whose versions are part of every cache key.
PACKAGES = (
    "srgan-tf",
    "tensorflow",
    "keras",
    "numpy",
    "scipy",
    "pillow",
    "scikit-image",
    "ai-edge-litert",
    "numba",
    "opencv-python-headless",
)


@dataclass(frozen=True)
class Score:
    """A method's result on an image.

    Attributes:
        set, image, method: names.
        values: by metric, without those that failed; PSNR is infinite for HR itself.
        file: the enlarged image, a PNG in the cache.
    """

    set: str
    image: str
    method: str
    values: dict[str, float]
    file: Path


@dataclass(frozen=True)
class Scores:
    """All results of an evaluation.

    Attributes:
        sets: the images by set, in order.
        methods: in order.
        metrics: names of the metrics.
        entries: one for each image and method that did not fail.
        failures: messages that name the method, the image and the reason.
    """

    sets: dict[str, list[BenchmarkImage]]
    methods: list[Method]
    metrics: list[str]
    entries: list[Score] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def of(self, set_name: str, method: str) -> list[Score]:
        """Return a method's results on a set, in the order of the images."""
        return [s for s in self.entries if (s.set, s.method) == (set_name, method)]

    def at(self, set_name: str, image: str, method: str) -> Score | None:
        """Return a method's result on an image; None if it failed."""
        return next((s for s in self.of(set_name, method) if s.image == image), None)

    def mean(self, set_name: str, method: str, metric: str) -> float | None:
        """Return a metric's mean over a set; None if a result is missing."""
        values = [s.values[metric] for s in self.of(set_name, method) if metric in s.values]
        if not values or len(values) < len(self.sets[set_name]):
            return None
        return float(np.mean(values))


def evaluate(
    sets: dict[str, list[BenchmarkImage]],
    methods: list[Method],
    metrics: list[Metric],
    jobs: int = 1,
) -> Scores:
    """Score methods on sets, with a progress bar if stderr is a terminal.

    Enlarged images and scores are cached by the content of the files they depend on.

    Args:
        sets: see `srgan_tf.evaluation.sets.open_sets`.
        methods: see `srgan_tf.evaluation.methods.open_methods`.
        metrics: see `srgan_tf.evaluation.metrics.open_metrics`.
        jobs: number of images processed at a time.

    Raises:
        UserError: a model of another scale, or a metric's weights are not available.
    """
    images = [image for group in sets.values() for image in group]
    results = Scores(sets, methods, [metric.name for metric in metrics])
    pool = ThreadPoolExecutor(jobs)
    bar = tqdm(total=len(images) * len(methods), unit="image", disable=None)
    try:
        tasks = [pool.submit(_evaluate_image, image, methods, metrics, bar) for image in images]
        for task in as_completed(tasks):
            scores, failures = task.result()
            results.entries.extend(scores)
            results.failures.extend(failures)
    finally:
        pool.shutdown(cancel_futures=True)
        bar.close()
    order = {name: index for index, name in enumerate(sets)}
    results.entries.sort(key=lambda score: (order[score.set], score.image))
    results.failures.sort()
    return results


def read_result(score: Score, image: BenchmarkImage, method: Method) -> np.ndarray:
    """Return the enlarged image of a result, which is computed again if its file is damaged.

    Raises:
        ImageError: it can't be computed again or written.
    """
    try:
        return read_photo(score.file)
    except ImageError:
        sr = method.enlarge(image, *image.load())
        write_image(score.file, sr)
        return sr


def _evaluate_image(
    image: BenchmarkImage, methods: list[Method], metrics: list[Metric], bar: tqdm
) -> tuple[list[Score], list[str]]:
    scores, failures = [], []
    scorer = _ImageScorer(image)
    for method in methods:
        try:
            score, problems = scorer.score(method, metrics)
            scores.append(score)
        except UserError:  # concerns all images
            raise
        except ImageError as error:
            problems = [str(error)]
        except Exception as error:  # one image must not stop the others
            problems = [f"{type(error).__name__}: {first_line(error)}"]
        failures += [f"{method.name}: {image.full_name}: {problem}" for problem in problems]
        bar.update()
    return scores, failures


class _ImageScorer:
    """Scores methods on an image; the methods share data, which is computed when first needed."""

    def __init__(self, image: BenchmarkImage):
        self.image = image
        self._pair: tuple[np.ndarray, np.ndarray] | None = None
        self._references: dict[str, object] = {}

    def score(self, method: Method, metrics: list[Metric]) -> tuple[Score, list[str]]:
        """Return the method's result, and messages on metrics that failed."""
        image = self.image
        key = _key(method.cache_key(image), image.digest)
        folder = cache_folder() / "evaluation" / key[:2]
        picture, values_file = folder / f"{key}.png", folder / f"{key}.json"
        known = _read_values(values_file) if is_file(picture) else {}
        missing = [m for m in metrics if m.cache_key not in known]
        problems = []
        if missing:
            writable_cache("evaluation")
            lr, hr = self._load()
            try:
                sr = read_photo(picture)
            except ImageError:  # missing or damaged: computed again
                known, missing = {}, metrics
                sr = method.enlarge(image, lr, hr)
                write_image(picture, sr)
            for metric in missing:
                try:
                    known[metric.cache_key] = self._compute(metric, sr, hr)
                except ImageError as error:
                    problems.append(str(error))
            write_text(values_file, json.dumps(known))
        values = {m.name: known[m.cache_key] for m in metrics if m.cache_key in known}
        return Score(image.set, image.name, method.name, values, picture), problems

    def _compute(self, metric: Metric, sr: np.ndarray, hr: np.ndarray) -> float:
        scale, heading = self.image.scale, METRICS[metric.name].heading.removesuffix(", dB")
        if min(sr.shape[:2]) < metric.min_side(scale):
            raise ImageError(f"{heading} needs sides of at least {metric.min_side(scale)} pixels")
        if metric.cache_key not in self._references:
            self._references[metric.cache_key] = metric.reference(hr)
        return metric(sr, self._references[metric.cache_key], scale)

    def _load(self) -> tuple[np.ndarray, np.ndarray]:
        if self._pair is None:
            self._pair = self.image.load()
        return self._pair


def _key(*parts: str) -> str:
    versions = json.dumps(installed_versions())
    return hashlib.sha256("\0".join([str(_REVISION), versions, *parts]).encode()).hexdigest()


@cache
def installed_versions() -> dict[str, str]:
    """Return the versions of the installed `PACKAGES`."""
    versions = {}
    for package in PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return versions


def _read_values(file: Path) -> dict[str, float]:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # missing or damaged: computed again
        return {}
