"""Mass upscaling: an Apache Beam pipeline from photos in storage to larger ones in storage.

    match ──► join with the results there are ──► read ──► RunInference ──► write
                    │ clashing names                │ broken files            │ not writable
                    └───────────────────────────────┴───────► failures.jsonl ◄┘

After the join nothing is shuffled, so each result is in storage moments after it was computed,
and what a stopped job has written is there for the next one to skip.
"""

from __future__ import annotations

import hashlib
import json
import mimetypes
import os
import re
import shutil
import sys
import tempfile
import threading
import uuid
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import apache_beam as beam
from apache_beam.io import WriteToText
from apache_beam.io.filesystem import BeamIOError, CompressionTypes
from apache_beam.io.filesystems import FileSystems
from apache_beam.metrics import Metrics, MetricsFilter
from apache_beam.ml.inference.base import ModelHandler, RunInference
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
from apache_beam.runners.runner import PipelineResult, PipelineState
from tqdm import tqdm

from srgan_tf.errors import ImageError, RequestError
from srgan_tf.files import IMAGE_SUFFIXES, Output, first_line, native_messages_held_back
from srgan_tf.tiles import DEFAULT_TILE

# TensorFlow takes seconds to import, and would write its notices to the terminal: it waits until
# a worker loads the model.
if TYPE_CHECKING:
    from srgan_tf.images import Photo
    from srgan_tf.inference import Upscaler

FAILURES_FILE = "failures.jsonl"
_METRICS = "upscale-batch"
_PHOTOS_IN_A_BATCH = 8
_FAILED = "failed"
_WILDCARD = re.compile(r"[*?[]")
_FOUND, _DONE = b"+", b"-"
_OUTPUT = Output()


@dataclass(frozen=True)
class Settings:
    """What to enlarge with, as of `srgan_tf.Upscaler`; a model may lie in storage, too."""

    model: str | None = None
    tile: int = DEFAULT_TILE
    self_ensemble: bool = False
    precision: str = "float32"
    together: int = 1

    def open(self) -> Upscaler:
        """Raises RequestError as `Upscaler` does."""
        with native_messages_held_back():
            import tensorflow as tf

            tf.config.list_physical_devices()
        from srgan_tf.inference import Upscaler

        with _local_model(self.model) as model:
            return Upscaler(
                model, self.tile, self.self_ensemble, self.precision, together=self.together
            )


@dataclass(frozen=True)
class Report:
    """What a job has done: numbers of files, and megapixels of results."""

    files: int
    skipped: int
    failed: int
    megapixels: float


@dataclass(frozen=True)
class Job:
    """A photo on its way, before and after it is enlarged: where from, where to."""

    source: str
    target: str
    photo: Photo


def upscale_batch(
    inputs: Sequence[str],
    out: str,
    settings: Settings,
    overwrite: bool = False,
    workers: int | None = None,
    runner_options: Sequence[str] = (),
    output: Output = _OUTPUT,
) -> Report:
    """Enlarges the photos in storage that match, with a progress bar where a runner here does it.

    A result has its input's name, and its format unless `output` has another, and lies in the
    folders that the input has below the first wildcard. It is written to a temporary name and
    renamed. Those that exist are skipped.
    Inputs that can't be enlarged are lines of JSON in failures.jsonl beside the results, with
    `file` and `reason`.

    Args:
        inputs: files, folders or patterns with `*`, `**`, `?` and `[]` of Beam's filesystems.
        out: the folder of the results.
        settings: the model and how to apply it.
        overwrite: enlarge again what has a result.
        workers: processes of Beam's runner on this machine; None: a quarter of the cores, at
            least 2.
        runner_options: Beam's, such as `--runner=FlinkRunner`.
        output: how results are written.

    Raises:
        RequestError: nothing matches, results among the inputs, no such model, no such filesystem.
    """
    options = PipelineOptions(list(runner_options))
    here = options.view_as(StandardOptions).runner is None
    if here:
        options = PipelineOptions([*_local_runner(workers), *runner_options])
    elif workers is not None:
        raise RequestError("--workers is for this machine; give the runner's own option after --")
    FileSystems.set_options(options)
    out = _absolute(out)
    patterns = [_pattern(text, out) for text in inputs]
    scale = settings.open().scale

    # Of the request, so that the same one started again finds what a killed job left.
    request = hashlib.sha256("\n".join([out, *sorted(inputs)]).encode()).hexdigest()[:12]
    partial = f"{out}/.partial-{request}"
    _delete(partial)
    try:
        with _progress_bar(here) as tally:
            result = _run(
                _pipeline(
                    options, patterns, out, partial, settings, scale, overwrite, tally, output
                )
            )
        counts = _counts(result)
        if not counts["found"]:
            raise RequestError(f"no {', '.join(IMAGE_SUFFIXES)} in {', '.join(inputs)}")
        failures = f"{out}/{FAILURES_FILE}"
        if counts["failures"]:
            FileSystems.rename([f"{partial}/{FAILURES_FILE}"], [failures])
        else:
            _delete(failures)
    finally:
        _delete(partial)
    megapixels = counts["pixels"] / 10**6
    return Report(counts["files"], counts["skipped"], counts["failures"], megapixels)


def read_failures(out: str) -> list[dict[str, str]]:
    """Of the job before: `file` and `reason` of each input that has no result, sorted."""
    path = f"{_absolute(out)}/{FAILURES_FILE}"
    if not FileSystems.exists(path):
        return []
    with FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED) as file:
        return sorted((json.loads(line) for line in file), key=lambda failure: failure["file"])


class UpscaleHandler(ModelHandler):
    """RunInference's: batches of `Job`s, whose tiles of one size meet the network together."""

    def __init__(self, settings: Settings):
        super().__init__()
        self._settings = settings

    def load_model(self) -> _Model:
        return _Model(self._settings.open(), threading.Lock())

    def run_inference(
        self, batch: Sequence[Job], model: _Model, inference_args: dict[str, Any] | None = None
    ) -> Iterable[Job | tuple[Job, str]]:
        """Jobs with their results, or with the reason why there is none."""
        try:
            with model.lock:
                enlarged = model.upscaler.upscale_all([job.photo.pixels for job in batch])
        except MemoryError:
            return [(job, "its enlargement is too large") for job in batch]
        return [
            replace(job, photo=replace(job.photo, pixels=pixels))
            for job, pixels in zip(batch, enlarged, strict=True)
        ]

    def batch_elements_kwargs(self) -> dict[str, Any]:
        """As many photos as have the pixels of one tile, but few: a stopped job loses a batch.

        A photo larger than a tile is a batch of its own.
        """
        pixels = self._settings.tile**2
        least = pixels // max(_PHOTOS_IN_A_BATCH, self._settings.together)
        return {
            "min_batch_size": pixels,
            "max_batch_size": pixels,
            "element_size_fn": partial(_weight, least=least),
        }

    def get_num_bytes(self, batch: Sequence[Job]) -> int:
        return sum(job.photo.pixels.nbytes for job in batch)


@dataclass(eq=False)
class _Model:
    """One photo at a time in a process: some runners' workers have many threads."""

    upscaler: Upscaler
    lock: threading.Lock


class _Match(beam.DoFn):
    """(folder, pattern) to (target, source) of each image that matches."""

    def __init__(self, out: str, tally: str | None, output: Output = _OUTPUT):
        self._out, self._tally, self._output = out, tally, output
        self._found = Metrics.counter(_METRICS, "found")

    def process(self, element: tuple[str, str]) -> Iterator[tuple[str, str]]:
        folder, pattern = element
        for source in _match(pattern):
            # A folder of results within a folder of photos isn't enlarged again.
            if _is_image(source) and not source.startswith(f"{self._out}/"):
                self._found.inc()
                _mark(self._tally, _FOUND)
                name = self._output.name(source[len(folder) :].lstrip("/"))
                yield f"{self._out}/{name}", source


class _Plan(beam.DoFn):
    """(target, its sources and whether it exists) to (source, target) of what is to be done."""

    def __init__(self, tally: str | None):
        self._tally = tally
        self._skipped = Metrics.counter(_METRICS, "skipped")

    def process(self, element: tuple[str, dict[str, Iterable[str]]]) -> Iterator:
        target, groups = element
        sources = sorted(set(groups["sources"]))
        if len(sources) > 1:
            for source in sources:
                others = ", ".join(other for other in sources if other != source)
                reason = f"{target} would be the result of {others}, too"
                yield beam.pvalue.TaggedOutput(_FAILED, (source, reason))
        elif sources and any(groups["existing"]):
            self._skipped.inc()
            _mark(self._tally, _DONE)
        elif sources:
            yield sources[0], target


class _Read(beam.DoFn):
    """(source, target) to a `Job`."""

    def __init__(self, scale: int):
        self._scale = scale

    def process(self, element: tuple[str, str]) -> Iterator:
        from srgan_tf.images import check_writable, is_transparent, read_image

        source, target = element
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / f"photo{_suffix(target)}"
            try:
                _fetch(source, path)
                photo = read_image(path)
                height, width = (self._scale * side for side in photo.pixels.shape[:2])
                check_writable(path, height, width, is_transparent(photo.pixels))
            except (ImageError, OSError) as error:
                yield beam.pvalue.TaggedOutput(_FAILED, (source, _reason(error, path)))
                return
        if photo.note:
            warnings.warn(f"{source}: {photo.note}", stacklevel=1)
        yield Job(source, target, photo)


class _Write(beam.DoFn):
    """Writes the results of `Job`s, whole or not at all.

    A bundle that is tried again, also while the former try goes on, writes the same to a
    temporary name of its own, and the last to be renamed stays.
    """

    def __init__(self, partial: str, tally: str | None, output: Output = _OUTPUT):
        self._partial, self._tally, self._output = partial, tally, output
        self._files = Metrics.counter(_METRICS, "files")
        self._pixels = Metrics.counter(_METRICS, "pixels")

    def process(self, element: Job | tuple[Job, str]) -> Iterator:
        from srgan_tf.images import write_image

        if isinstance(element, tuple):
            job, reason = element
            yield beam.pvalue.TaggedOutput(_FAILED, (job.source, reason))
            return
        photo = element.photo
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / f"result{_suffix(element.target)}"
            try:
                metadata = None if self._output.strip_metadata else photo.metadata
                quality = self._output.quality
                write_image(path, photo.pixels, photo.icc_profile, photo.dpi, metadata, quality)
                _store(path, f"{self._partial}/{uuid.uuid4().hex}{path.suffix}", element.target)
            except (ImageError, OSError) as error:
                yield beam.pvalue.TaggedOutput(_FAILED, (element.source, _reason(error, path)))
                return
        self._files.inc()
        self._pixels.inc(_pixels(element))
        _mark(self._tally, _DONE)


class _Failure(beam.DoFn):
    """(source, reason) to a line of JSON."""

    def __init__(self, tally: str | None):
        self._tally = tally
        self._failures = Metrics.counter(_METRICS, "failures")

    def process(self, element: tuple[str, str]) -> Iterator[str]:
        source, reason = element
        self._failures.inc()
        _mark(self._tally, _DONE)
        yield json.dumps({"file": source, "reason": reason}, ensure_ascii=False)


def _pipeline(
    options: PipelineOptions,
    patterns: list[tuple[str, str]],
    out: str,
    partial: str,
    settings: Settings,
    scale: int,
    overwrite: bool,
    tally: str | None,
    output: Output,
) -> beam.Pipeline:
    pipeline = beam.Pipeline(options=options)
    existing = [] if overwrite else [f"{out}/**"]
    groups = {
        "sources": pipeline
        | "Inputs" >> beam.Create(patterns)
        | "Match" >> beam.ParDo(_Match(out, tally, output)),
        # One listing costs far less than asking for each result.
        "existing": pipeline
        | "Results" >> beam.Create(existing, reshuffle=False)
        | "List" >> beam.FlatMap(_keyed),
    }
    planned = (
        groups
        | "Join" >> beam.CoGroupByKey()
        | "Plan" >> beam.ParDo(_Plan(tally)).with_outputs(_FAILED, main="todo")
    )
    read = planned.todo | "Read" >> beam.ParDo(_Read(scale)).with_outputs(_FAILED, main="jobs")
    written = (
        read.jobs
        | "Upscale" >> RunInference(UpscaleHandler(settings))
        | "Write"
        >> beam.ParDo(_Write(partial, tally, output)).with_outputs(_FAILED, main="nothing")
    )
    (
        (planned[_FAILED], read[_FAILED], written[_FAILED])
        | "Failures" >> beam.Flatten()
        | "Describe" >> beam.ParDo(_Failure(tally))
        | "Record"
        >> WriteToText(
            f"{partial}/{FAILURES_FILE}", num_shards=1, shard_name_template="", skip_if_empty=True
        )
    )
    return pipeline


def _run(pipeline: beam.Pipeline) -> PipelineResult:
    result = pipeline.run()
    try:
        state = result.wait_until_finish()
    except BaseException:
        # Or it would go on elsewhere, where what it writes is about to be tidied away.
        if not PipelineState.is_terminal(result.state):
            result.cancel()
        raise
    if state != PipelineState.DONE:
        raise RuntimeError(f"the runner ended the job as {state}")
    return result


def _local_runner(workers: int | None) -> list[str]:
    if workers is None:
        workers = max(2, (os.cpu_count() or 1) // 4)
    if workers < 1:
        raise RequestError(f"--workers must be at least 1, not {workers}")
    return [
        "--runner=DirectRunner",
        f"--direct_num_workers={workers}",
        "--direct_running_mode=multi_processing",
        # Keeps DirectRunner from downloading Prism, a newer runner without worker processes.
        "--allow_unsafe_triggers",
        "--default_sdk_harness_log_level=ERROR",
    ]


def _counts(result: PipelineResult) -> dict[str, int]:
    counters = result.metrics().query(MetricsFilter().with_namespace(_METRICS))["counters"]
    counts = dict.fromkeys(("found", "files", "pixels", "skipped", "failures"), 0)
    for counter in counters:
        counts[counter.key.metric.name] += counter.result
    return counts


def _pattern(text: str, out: str) -> tuple[str, str]:
    """(the folder below which results keep their place, Beam's pattern) of an input.

    Raises:
        RequestError: nothing matches, or only results would.
    """
    pattern = _absolute(text)
    if not _WILDCARD.search(pattern) and next(_match(f"{pattern}/**", limit=1), None):
        pattern += "/**"
    # As shells mean it, also what lies in no subfolder; Beam's ** crosses folders by itself.
    pattern = pattern.replace("/**/*", "/**")
    folder = _WILDCARD.split(pattern)[0].rpartition("/")[0]
    if f"{folder}/".startswith(f"{out}/"):
        raise RequestError(f"{text}: within {out}, the folder of the results")
    if next(_match(pattern, limit=1), None) is None:
        raise RequestError(f"{text}: no such file or folder, and no file matches")
    return folder, pattern


def _absolute(path: str) -> str:
    try:
        scheme = FileSystems.get_scheme(path)
        FileSystems.get_filesystem(path)
    except ValueError as error:
        raise RequestError(f"{path}: {first_line(error)}") from None
    # Links resolved: no result may replace an input unnoticed.
    return (os.path.realpath(path) if scheme is None else path).rstrip("/")


def _match(pattern: str, limit: int | None = None) -> Iterator[str]:
    try:
        (result,) = FileSystems.match([pattern], [limit])
    except BeamIOError as error:
        raise RequestError(f"{pattern}: can't be listed: {first_line(error)}") from None
    return (metadata.path for metadata in result.metadata_list)


def _keyed(pattern: str) -> Iterator[tuple[str, str]]:
    return ((path, path) for path in _match(pattern))


def _delete(path: str) -> None:
    """A file, or a folder with what is in it; a worker that is about to end may still write."""
    with suppress(BeamIOError):
        inside = list(_match(f"{path}/**"))
        if inside:
            FileSystems.delete(inside)
        if FileSystems.exists(path):
            FileSystems.delete([path])


def _fetch(source: str, path: Path) -> None:
    with (
        FileSystems.open(source, compression_type=CompressionTypes.UNCOMPRESSED) as remote,
        path.open("wb") as file,
    ):
        shutil.copyfileobj(remote, file)


def _store(path: Path, partial: str, target: str) -> None:
    """Copies a file to `target` by way of a temporary name."""
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    with (
        path.open("rb") as file,
        FileSystems.create(partial, kind, CompressionTypes.UNCOMPRESSED) as remote,
    ):
        shutil.copyfileobj(file, remote)
    if FileSystems.get_scheme(target) is None:
        Path(target).parent.mkdir(parents=True, exist_ok=True)
    FileSystems.rename([partial], [target])


@contextmanager
def _local_model(model: str | None) -> Iterator[str | Path | None]:
    """A model's own name, or a copy here of a file in storage."""
    if model is None or re.match("(https?|grpc)://", model) or "://" not in model:
        yield model
        return
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / f"model{_suffix(model)}"
        try:
            _fetch(model, path)
        except (OSError, ValueError) as error:
            raise RequestError(f"{model}: can't be read: {first_line(error)}") from None
        yield path


def _is_image(path: str) -> bool:
    return _suffix(path) in IMAGE_SUFFIXES


def _suffix(path: str) -> str:
    return PurePosixPath(path).suffix.lower()


def _pixels(job: Job) -> int:
    height, width = job.photo.pixels.shape[:2]
    return height * width


def _weight(job: Job, least: int) -> int:
    return max(_pixels(job), least)


def _reason(error: Exception, path: Path) -> str:
    return str(error).removeprefix(f"{path}: ") if str(error) else type(error).__name__


def _mark(tally: str | None, mark: bytes) -> None:
    if tally is not None:
        with open(tally, "ab", buffering=0) as file:  # noqa: PTH123
            file.write(mark)


@contextmanager
def _progress_bar(here: bool) -> Iterator[str | None]:
    """Shows how many files are done, when stderr is a terminal and the workers are on this machine.

    Gives the path of a file to which each worker process appends a mark a file.
    """
    if not (here and sys.stderr.isatty()):
        yield None
        return
    ended = threading.Event()
    with tempfile.NamedTemporaryFile() as tally, tqdm(unit="file", total=0) as progress:

        def watch() -> None:
            found, last = 0, False
            while not last:
                last = ended.wait(0.5)
                marks = tally.read()
                found += marks.count(_FOUND)
                progress.total = found
                progress.update(marks.count(_DONE))

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield tally.name
        finally:
            ended.set()
            watcher.join()
