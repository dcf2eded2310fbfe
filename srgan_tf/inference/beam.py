"""Mass upscaling: an Apache Beam pipeline from photos in storage to larger ones in storage.

    match ──► join with existing results ──► read ──► RunInference ──► write
                    │ clashing names           │ broken files            │ not writable
                    └──────────────────────────┴───────► failures.jsonl ◄┘

Nothing is shuffled after the join, so each result is in storage moments after it is computed, and
the next job skips what a stopped one has written.
"""

from __future__ import annotations

import hashlib
import json
import mimetypes
import os
import re
import shlex
import shutil
import sys
import tempfile
import threading
import uuid
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import apache_beam as beam
from apache_beam.io.filesystem import BeamIOError, CompressionTypes, FileSystem
from apache_beam.io.filesystems import FileSystems
from apache_beam.metrics import Metrics, MetricsFilter
from apache_beam.ml.inference.base import ModelHandler, RunInference
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions, StandardOptions
from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner
from apache_beam.runners.runner import PipelineResult, PipelineState
from apache_beam.transforms.environments import SubprocessSDKEnvironment
from tqdm import tqdm

from srgan_tf.errors import ImageError, UserError
from srgan_tf.files import (
    READ_SUFFIXES,
    Output,
    atomic_write,
    find_images,
    first_line,
    is_file,
    is_folder,
    is_image_name,
    suppress_native_output,
)
from srgan_tf.inference.size import Size
from srgan_tf.inference.tiles import DEFAULT_TILE

# TensorFlow takes seconds to import; if it is needed, workers import it when they load the model.
if TYPE_CHECKING:
    from srgan_tf.images import Photo
    from srgan_tf.inference.upscaler import Upscaler

FAILURES_FILE = "failures.jsonl"
_METRICS = "upscale-batch"
_PHOTOS_IN_A_BATCH = 8
_FAILED = "failed"
_WILDCARD = re.compile(r"[*?[]")
_FOUND, _DONE = b"+", b"-"
_OUTPUT = Output()
_PROCESSES = "multi_processing"
# Starts a worker process of Beam's runner on this machine without its notices.
_WORKER = f"{shlex.quote(sys.executable)} -m srgan_tf.inference.beam_worker"


@dataclass(frozen=True)
class Settings:
    """Arguments of `srgan_tf.Upscaler`; the model may also be a file in storage."""

    model: str | None = None
    tile: int = DEFAULT_TILE
    self_ensemble: bool = False
    precision: str = "float32"
    tile_batch_size: int = 1
    engine: str = "auto"
    size: Size | None = None

    def open(self) -> Upscaler:
        """Open the upscaler. Raises UserError as `Upscaler` does."""
        with suppress_native_output():
            from srgan_tf.inference.upscaler import Upscaler

            with _local_model(self.model) as model:
                return Upscaler(
                    model,
                    self.tile,
                    self.self_ensemble,
                    self.precision,
                    tile_batch_size=self.tile_batch_size,
                    engine=self.engine,
                    size=self.size,
                )


@dataclass(frozen=True)
class Input:
    """Photos that an argument of the command names.

    Attributes:
        folder: results keep the photos' paths relative to it.
        pattern: Beam's pattern of their paths; None for all in the folder.
        only: path of a single photo, instead of a pattern.
    """

    folder: str
    pattern: str | None = None
    only: str | None = None


@dataclass(frozen=True)
class Report:
    """Numbers of a job's files: enlarged, skipped and failed, and megapixels of the results."""

    files: int
    skipped: int
    failed: int
    megapixels: float


@dataclass(frozen=True)
class Job:
    """A photo, before or after it is enlarged, with the paths of its file and of its result."""

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
    """Enlarge photos in storage, with a progress bar if the runner is on this machine.

    A result has its input's name, its format unless `output` has another, and its path below the
    first wildcard. It is written to a temporary name and renamed. Existing results are skipped.
    Inputs that can't be enlarged are listed in failures.jsonl beside the results, one JSON object
    with `file` and `reason` per line.

    Args:
        inputs: files, folders or patterns with `*`, `**`, `?` and `[]` in Beam's filesystems; an
            existing path is not a pattern.
        out: folder of the results.
        settings: the model and how to apply it.
        overwrite: replace existing results.
        workers: number of processes of Beam's runner on this machine; None for a quarter of the
            cores, at least 2.
        runner_options: Beam's options, such as `--runner=FlinkRunner`.
        output: how results are written.

    Raises:
        UserError: nothing matches, an input is a result, no such model, or no such filesystem.
    """
    options = PipelineOptions(list(runner_options))
    here = options.view_as(StandardOptions).runner is None
    if here:
        options = PipelineOptions([*_local_runner(workers), *runner_options])
    elif workers is not None:
        raise UserError("--workers is for this machine; give the runner's own option after --")
    FileSystems.set_options(options)
    runner = None
    if here and options.view_as(DirectOptions).direct_running_mode == _PROCESSES:
        # Otherwise Beam would replace the environment by one with its own command.
        options.view_as(DirectOptions).direct_running_mode = "in_memory"
        worker = SubprocessSDKEnvironment.from_command_string(_WORKER)
        runner = FnApiRunner(worker)
    out = _absolute(out)
    found = [_find(text, out) for text in inputs]
    scale = settings.open().scale

    # The same request finds and removes the temporary files of a killed job.
    request = hashlib.sha256(os.fsencode("\n".join([out, *sorted(inputs)]))).hexdigest()[:12]
    partial = f"{out}/.partial-{request}"
    _delete(partial)
    try:
        with _progress_bar(here) as tally:
            result = _run(
                _pipeline(
                    beam.Pipeline(runner, options),
                    found,
                    out,
                    partial,
                    settings,
                    scale,
                    overwrite,
                    tally,
                    output,
                )
            )
        counts = _counts(result)
        if not (counts["found"] or counts["failures"]):
            raise UserError(f"no {', '.join(READ_SUFFIXES)} in {', '.join(inputs)}")
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
    """Return `file` and `reason` of each failed input of the last job, sorted by file."""
    path = f"{_absolute(out)}/{FAILURES_FILE}"
    if not FileSystems.exists(path):
        return []
    with FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED) as file:
        return sorted((json.loads(line) for line in file), key=lambda failure: failure["file"])


class UpscaleHandler(ModelHandler):
    """RunInference's handler: enlarges `Job`s in groups, tiles of one size in one batch."""

    def __init__(self, settings: Settings):
        super().__init__()
        self._settings = settings

    def load_model(self) -> _Model:
        return _Model(self._settings.open(), threading.Lock())

    def run_inference(
        self, batch: Sequence[Job], model: _Model, inference_args: dict[str, Any] | None = None
    ) -> Iterable[Job | tuple[Job, str]]:
        """Return the jobs with their results, or (job, reason) if they are too large."""
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
        """Limit a group to few photos and the pixels of one tile, as a stopped job loses a group.

        A photo larger than a tile is a group of its own.
        """
        pixels = self._settings.tile**2
        least = pixels // max(_PHOTOS_IN_A_BATCH, self._settings.tile_batch_size)
        return {
            "min_batch_size": pixels,
            "max_batch_size": pixels,
            "element_size_fn": partial(_weight, least=least),
        }

    def get_num_bytes(self, batch: Sequence[Job]) -> int:
        return sum(job.photo.pixels.nbytes for job in batch)


@dataclass(eq=False)
class _Model:
    """An upscaler with a lock, as the workers of some runners have many threads."""

    upscaler: Upscaler
    lock: threading.Lock


class _Match(beam.DoFn):
    """Maps an `Input` to (target, source) of each image; as bytes, since paths may not be UTF-8."""

    def __init__(self, out: str, tally: str | None, output: Output = _OUTPUT):
        self._out, self._tally, self._output = out, tally, output
        self._found = Metrics.counter(_METRICS, "found")

    def process(self, element: Input) -> Iterator:
        for source, problem in _images(element, self._out):
            _mark(self._tally, _FOUND)
            if problem is not None:
                yield beam.pvalue.TaggedOutput(_FAILED, _failure(source, problem))
                continue
            self._found.inc()
            name = self._output.name(source[len(element.folder) :].lstrip("/"))
            yield os.fsencode(f"{self._out}/{name}"), os.fsencode(source)


class _Plan(beam.DoFn):
    """Maps a target with its sources and existing results to (source, target) if it is missing."""

    def __init__(self, tally: str | None):
        self._tally = tally
        self._skipped = Metrics.counter(_METRICS, "skipped")

    def process(self, element: tuple[bytes, dict[str, Iterable[bytes]]]) -> Iterator:
        target, groups = element
        sources = sorted({os.fsdecode(source) for source in groups["sources"]})
        if len({_real(source) for source in sources}) > 1:
            for source in sources:
                others = ", ".join(other for other in sources if other != source)
                reason = f"{os.fsdecode(target)} would be the result of {others}, too"
                yield beam.pvalue.TaggedOutput(_FAILED, _failure(source, reason))
        elif sources and any(groups["existing"]):
            self._skipped.inc()
            _mark(self._tally, _DONE)
        elif sources:
            yield os.fsencode(sources[0]), target


class _Read(beam.DoFn):
    """Maps (source, target) to a `Job` with the decoded photo."""

    def __init__(self, scale: int, size: Size):
        self._scale, self._size = scale, size

    def process(self, element: tuple[bytes, bytes]) -> Iterator:
        from srgan_tf.images import check_writable, is_transparent, read_image

        source, target = map(os.fsdecode, element)
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / f"photo{_suffix(target)}"
            try:
                _fetch(source, path)
                photo = read_image(path)
                height, width = photo.pixels.shape[:2]
                height, width = self._size.of(height, width, self._scale)
                check_writable(path, height, width, is_transparent(photo.pixels))
            except (ImageError, OSError) as error:
                yield beam.pvalue.TaggedOutput(_FAILED, _failure(source, _reason(error, path)))
                return
        if photo.note:
            warnings.warn(f"{source}: {photo.note}", stacklevel=1)
        yield Job(source, target, photo)


class _Write(beam.DoFn):
    """Writes the results of `Job`s atomically.

    A retried bundle, even while the first attempt is running, writes the same content to another
    temporary name; the last one renamed is kept.
    """

    def __init__(self, partial: str, tally: str | None, output: Output = _OUTPUT):
        self._partial, self._tally, self._output = partial, tally, output
        self._files = Metrics.counter(_METRICS, "files")
        self._pixels = Metrics.counter(_METRICS, "pixels")

    def process(self, element: Job | tuple[Job, str]) -> Iterator:
        from srgan_tf.images import write_image

        if isinstance(element, tuple):
            job, reason = element
            yield beam.pvalue.TaggedOutput(_FAILED, _failure(job.source, reason))
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
                reason = _reason(error, path)
                yield beam.pvalue.TaggedOutput(_FAILED, _failure(element.source, reason))
                return
        self._files.inc()
        self._pixels.inc(_pixels(element))
        _mark(self._tally, _DONE)


class _Record(beam.DoFn):
    """Writes the lines on failures to a file, if there are any."""

    def __init__(self, partial: str, tally: str | None):
        self._path, self._tally = f"{partial}/{FAILURES_FILE}", tally
        self._failures = Metrics.counter(_METRICS, "failures")

    def process(self, element: list[str]) -> None:
        if not element:
            return
        content = "".join(f"{line}\n" for line in sorted(element)).encode()
        if _is_here(self._path):
            with atomic_write(Path(self._path)) as temporary:
                temporary.write_bytes(content)
        else:
            with FileSystems.create(
                self._path, "text/plain", CompressionTypes.UNCOMPRESSED
            ) as remote:
                remote.write(content)
        self._failures.inc(len(element))
        _mark(self._tally, _DONE * len(element))


def _pipeline(
    pipeline: beam.Pipeline,
    inputs: list[Input],
    out: str,
    partial: str,
    settings: Settings,
    scale: int,
    overwrite: bool,
    tally: str | None,
    output: Output,
) -> beam.Pipeline:
    existing = [] if overwrite else [Input(out)]
    matched = (
        pipeline
        | "Inputs" >> beam.Create(inputs)
        | "Match" >> beam.ParDo(_Match(out, tally, output)).with_outputs(_FAILED, main="sources")
    )
    groups = {
        "sources": matched.sources,
        # One listing is far faster than a query for each result.
        "existing": pipeline
        | "Results" >> beam.Create(existing, reshuffle=False)
        | "List" >> beam.FlatMap(_results),
    }
    planned = (
        groups
        | "Join" >> beam.CoGroupByKey()
        | "Plan" >> beam.ParDo(_Plan(tally)).with_outputs(_FAILED, main="todo")
    )
    reader = _Read(scale, settings.size or Size())
    read = planned.todo | "Read" >> beam.ParDo(reader).with_outputs(_FAILED, main="jobs")
    written = (
        read.jobs
        | "Upscale" >> RunInference(UpscaleHandler(settings))
        | "Write"
        >> beam.ParDo(_Write(partial, tally, output)).with_outputs(_FAILED, main="nothing")
    )
    (
        (matched[_FAILED], planned[_FAILED], read[_FAILED], written[_FAILED])
        | "Failures" >> beam.Flatten()
        | "Collect" >> beam.combiners.ToList()
        | "Record" >> beam.ParDo(_Record(partial, tally))
    )
    return pipeline


def _run(pipeline: beam.Pipeline) -> PipelineResult:
    result = pipeline.run()
    try:
        state = result.wait_until_finish()
    except BaseException:
        # Otherwise a remote job would go on, while its temporary files are deleted.
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
        raise UserError(f"--workers must be at least 1, not {workers}")
    return [
        "--runner=DirectRunner",
        f"--direct_num_workers={workers}",
        f"--direct_running_mode={_PROCESSES}",
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


def _find(text: str, out: str) -> Input:
    """Return the photos that an argument of the command names.

    Raises:
        UserError: it names nothing, or only results.
    """
    path = _absolute(text)
    folder = _is_folder(path)
    if folder:
        found = Input(path)
    elif folder is False:
        found = Input(path.rpartition("/")[0], only=path)
    else:
        # As in shells, ** also matches no folder; Beam's ** matches across folders by itself.
        pattern = path.replace("/**/*", "/**")
        found = Input(_WILDCARD.split(pattern)[0].rpartition("/")[0], pattern)
    if f"{found.folder}/".startswith(f"{out}/"):
        raise UserError(f"{text}: within {out}, the folder of the results")
    if folder is None and not (
        _WILDCARD.search(path) and any(problem is None for _, problem in _images(found, out))
    ):
        raise UserError(f"{text}: no such file or folder, and no file matches")
    return found


def _is_folder(path: str) -> bool | None:
    """Return what `files.is_folder` does, also in storage, where a folder is a prefix of files."""
    if _is_here(path):
        return is_folder(Path(path))
    if FileSystems.exists(path):
        return False
    return True if next(_match(f"{_escaped(path)}/**", limit=1), None) else None


def _images(found: Input, out: str | None) -> Iterator[tuple[str, str | None]]:
    """Yield (image, None) of an input, or (path, reason) for a folder that can't be read.

    A folder of results within a folder of photos is skipped.
    """
    if found.only is not None:
        yield found.only, None
    elif _is_here(found.folder):
        matches: Callable[[str], object] = bool  # any path
        enter: Callable[[Path], bool] = bool
        if found.pattern is not None:
            matches = re.compile(FileSystem.translate_pattern(found.pattern)).match
            enter = partial(_may_hold, found.pattern)
        results = None if out is None else Path(out)
        for path, problem in find_images(Path(found.folder), results, enter):
            if problem is not None or matches(str(path)):
                yield str(path), problem
    else:
        for source in _match(found.pattern or f"{_escaped(found.folder)}/**"):
            if is_image_name(source) and not source.startswith(f"{out}/"):
                yield source, None


def _may_hold(pattern: str, folder: Path) -> bool:
    """Return whether a pattern may match a path within a folder."""
    names = pattern.split("/")
    for name, own in zip(names, ("", *folder.parts[1:]), strict=False):
        if "**" in name:
            return True
        if not re.match(FileSystem.translate_pattern(name), own):
            return False
    return len(folder.parts) < len(names)


def _results(out: Input) -> Iterator[tuple[bytes, bytes]]:
    for path, problem in _images(out, None):
        if problem is None:
            yield os.fsencode(path), os.fsencode(path)


def _absolute(path: str) -> str:
    try:
        scheme = FileSystems.get_scheme(path)
        FileSystems.get_filesystem(path)
    except ValueError as error:
        raise UserError(f"{path}: {first_line(error)}") from None
    if scheme is not None:
        return path.rstrip("/")
    # Links are resolved, so that no result can replace an input, except for a photo's own name.
    if is_file(Path(path)):
        return str(Path(path).parent.resolve() / Path(path).name)
    return os.path.realpath(path)


def _match(pattern: str, limit: int | None = None) -> Iterator[str]:
    """Return the paths in storage that match a pattern."""
    try:
        (result,) = FileSystems.match([pattern], [limit])
    except BeamIOError as error:
        raise UserError(f"{pattern}: can't be listed: {first_line(error)}") from None
    return (metadata.path for metadata in result.metadata_list)


def _escaped(path: str) -> str:
    """Return a pattern that matches this path, and at most those with ] instead of [."""
    return path.translate({ord("*"): "[*]", ord("?"): "[?]", ord("["): "[][]"})


def _is_here(path: str) -> bool:
    return FileSystems.get_scheme(path) is None


def _real(path: str) -> str:
    return os.path.realpath(path) if _is_here(path) else path


def _delete(path: str) -> None:
    """Delete a file or a folder with its content, which an ending worker may still write to."""
    if _is_here(path):
        if is_file(Path(path)):
            Path(path).unlink()
        shutil.rmtree(path, ignore_errors=True)
        return
    with suppress(BeamIOError):
        inside = [_escaped(found) for found in _match(f"{_escaped(path)}/**")]
        if inside:
            FileSystems.delete(inside)
        if FileSystems.exists(path):
            FileSystems.delete([_escaped(path)])


def _fetch(source: str, path: Path) -> None:
    with (
        FileSystems.open(source, compression_type=CompressionTypes.UNCOMPRESSED) as remote,
        path.open("wb") as file,
    ):
        shutil.copyfileobj(remote, file)


def _store(path: Path, partial: str, target: str) -> None:
    """Copy a file to `target` through a temporary name in storage."""
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
    """Yield a model's name or path, which is a local copy if it is a file in storage."""
    if model is None or re.match("(https?|grpc)://", model) or "://" not in model:
        yield model
        return
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / f"model{_suffix(model)}"
        try:
            _fetch(model, path)
        except (OSError, ValueError) as error:
            raise UserError(f"{model}: can't be read: {first_line(error)}") from None
        yield path


def _suffix(path: str) -> str:
    return PurePosixPath(path).suffix.lower()


def _pixels(job: Job) -> int:
    height, width = job.photo.pixels.shape[:2]
    return height * width


def _weight(job: Job, least: int) -> int:
    return max(_pixels(job), least)


def _reason(error: Exception, path: Path) -> str:
    return str(error).removeprefix(f"{path}: ") if str(error) else type(error).__name__


def _failure(source: str, reason: str) -> str:
    """Return a line of JSON, in which bytes of names that aren't UTF-8 are written \\udcNN."""
    line = json.dumps({"file": source, "reason": reason}, ensure_ascii=False)
    return line.encode("utf-8", "backslashreplace").decode()


def _mark(tally: str | None, mark: bytes) -> None:
    if tally is not None:
        with open(tally, "ab", buffering=0) as file:  # noqa: PTH123
            file.write(mark)


@contextmanager
def _progress_bar(here: bool) -> Iterator[str | None]:
    """Show how many files are done, if stderr is a terminal and workers are on this machine.

    Yields the path of a file to which worker processes append a mark per file found or done.
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
