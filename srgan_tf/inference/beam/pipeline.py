"""The steps of the pipeline, from inputs to results and failures.jsonl.

Nothing is shuffled after the join, so each result is in storage moments after it is computed, and
the next job skips the results of a stopped one.
"""

from __future__ import annotations

import json
import os
import tempfile
import threading
import uuid
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import apache_beam as beam
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems
from apache_beam.metrics import Metrics
from apache_beam.ml.inference.base import ModelHandler, RunInference

from srgan_tf.errors import ImageError, UserError
from srgan_tf.files import Output, atomic_write
from srgan_tf.inference import OUT_OF_MEMORY
from srgan_tf.inference.beam import storage
from srgan_tf.inference.beam.progress import DONE, FOUND, mark
from srgan_tf.inference.beam.storage import Input
from srgan_tf.inference.size import Size
from srgan_tf.inference.tiles import DEFAULT_TILE
from srgan_tf.native_output import suppress_native_output
from srgan_tf.weights import DEFAULT_MODEL

# TensorFlow takes seconds to import; if it is needed, workers import it when they load the model.
if TYPE_CHECKING:
    from srgan_tf.images import Photo
    from srgan_tf.inference.upscaler import Upscaler

FAILURES_FILE = "failures.jsonl"
COUNTERS = "upscale-batch"
_MAX_PHOTOS_PER_GROUP = 8
_FAILED = "failed"


@dataclass(frozen=True)
class Settings:
    """Arguments of `srgan_tf.Upscaler`; the model may also be a file in storage."""

    model: str = DEFAULT_MODEL
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

            with storage.local_model(self.model) as model:
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
class Job:
    """A photo, before or after it is enlarged, with the paths of its file and of its result."""

    source: str
    target: str
    photo: Photo


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
        """Return the jobs with their results, or (job, reason): no memory, or a server's error."""
        try:
            with model.lock:
                enlarged = model.upscaler.upscale_all([job.photo.pixels for job in batch])
        except (MemoryError, ImageError, UserError) as error:
            if len(batch) > 1:  # most of them may be good
                return [done for job in batch for done in self.run_inference([job], model)]
            reason = OUT_OF_MEMORY if isinstance(error, MemoryError) else str(error)
            return [(job, reason) for job in batch]
        return [
            replace(job, photo=replace(job.photo, pixels=pixels))
            for job, pixels in zip(batch, enlarged, strict=True)
        ]

    def batch_elements_kwargs(self) -> dict[str, Any]:
        """Limit a group to 8 photos and the pixels of one tile, as a stopped job loses a group.

        A photo larger than a tile is a group of its own.
        """
        pixels = self._settings.tile**2
        least = pixels // max(_MAX_PHOTOS_PER_GROUP, self._settings.tile_batch_size)
        return {
            "min_batch_size": pixels,
            "max_batch_size": pixels,
            "element_size_fn": partial(_size_in_group, least=least),
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

    def __init__(self, out: str, tally: str | None, output: Output):
        self._out, self._tally, self._output = out, tally, output
        self._found = Metrics.counter(COUNTERS, "found")

    def process(self, element: Input) -> Iterator:
        for source, problem in storage.list_images(element, self._out):
            mark(self._tally, FOUND)
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
        self._skipped = Metrics.counter(COUNTERS, "skipped")

    def process(self, element: tuple[bytes, dict[str, Iterable[bytes]]]) -> Iterator:
        target, groups = element
        sources = sorted({os.fsdecode(source) for source in groups["sources"]})
        if len({storage.real_path(source) for source in sources}) > 1:
            for source in sources:
                others = ", ".join(other for other in sources if other != source)
                reason = f"{os.fsdecode(target)} would be the result of {others}, too"
                yield beam.pvalue.TaggedOutput(_FAILED, _failure(source, reason))
        elif sources and any(groups["existing"]):
            self._skipped.inc()
            mark(self._tally, DONE)
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
            path = Path(scratch) / f"photo{storage.suffix(target)}"
            try:
                storage.download(source, path)
                photo = read_image(path)
                height, width = photo.pixels.shape[:2]
                height, width = self._size.of(height, width, self._scale)
                check_writable(path, height, width, is_transparent(photo.pixels))
            except (ImageError, OSError, MemoryError) as error:
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

    def __init__(self, partial: str, tally: str | None, output: Output):
        self._partial, self._tally, self._output = partial, tally, output
        self._enlarged = Metrics.counter(COUNTERS, "enlarged")
        self._pixels = Metrics.counter(COUNTERS, "pixels")

    def process(self, element: Job | tuple[Job, str]) -> Iterator:
        from srgan_tf.images import write_image

        if isinstance(element, tuple):
            job, reason = element
            yield beam.pvalue.TaggedOutput(_FAILED, _failure(job.source, reason))
            return
        photo = element.photo
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / f"result{storage.suffix(element.target)}"
            try:
                metadata = None if self._output.strip_metadata else photo.metadata
                quality = self._output.quality
                write_image(path, photo.pixels, photo.icc_profile, photo.dpi, metadata, quality)
                storage.upload(
                    path, f"{self._partial}/{uuid.uuid4().hex}{path.suffix}", element.target
                )
            except (ImageError, OSError, MemoryError) as error:
                reason = _reason(error, path)
                yield beam.pvalue.TaggedOutput(_FAILED, _failure(element.source, reason))
                return
        self._enlarged.inc()
        self._pixels.inc(_pixels(element))
        mark(self._tally, DONE)


class _Record(beam.DoFn):
    """Writes the lines on failures to failures.jsonl, if there are any."""

    def __init__(self, partial: str, tally: str | None):
        self._path, self._tally = f"{partial}/{FAILURES_FILE}", tally
        self._failures = Metrics.counter(COUNTERS, "failures")

    def process(self, element: list[str]) -> None:
        if not element:
            return
        content = "".join(f"{line}\n" for line in sorted(element)).encode()
        if storage.is_local(self._path):
            with atomic_write(Path(self._path)) as temporary:
                temporary.write_bytes(content)
        else:
            with FileSystems.create(
                self._path, "text/plain", CompressionTypes.UNCOMPRESSED
            ) as remote:
                remote.write(content)
        self._failures.inc(len(element))
        mark(self._tally, DONE * len(element))


def build(
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
    """Add the steps to an empty pipeline, and return it.

    Args:
        pipeline: on the runner to use.
        inputs: the photos.
        out: folder of the results.
        partial: folder of temporary files, and of failures.jsonl.
        settings: the model and how to apply it.
        scale: of the model.
        overwrite: replace existing results.
        tally: see `srgan_tf.inference.beam.progress.mark`.
        output: how results are written.
    """
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
        | "List" >> beam.FlatMap(storage.list_results),
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


def _pixels(job: Job) -> int:
    height, width = job.photo.pixels.shape[:2]
    return height * width


def _size_in_group(job: Job, least: int) -> int:
    return max(_pixels(job), least)


def _reason(error: Exception, path: Path) -> str:
    if isinstance(error, MemoryError):
        return OUT_OF_MEMORY
    return str(error).removeprefix(f"{path}: ") if str(error) else type(error).__name__


def _failure(source: str, reason: str) -> str:
    """Return a line of JSON, in which bytes of names that aren't UTF-8 are written \\udcNN."""
    line = json.dumps({"file": source, "reason": reason}, ensure_ascii=False)
    return line.encode("utf-8", "backslashreplace").decode()
