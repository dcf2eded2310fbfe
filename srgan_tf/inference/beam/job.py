"""Runs a pipeline, and counts its results."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import apache_beam as beam
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems
from apache_beam.metrics import MetricsFilter
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions, StandardOptions
from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner
from apache_beam.runners.runner import PipelineResult, PipelineState
from apache_beam.transforms.environments import SubprocessSDKEnvironment
from filelock import FileLock, Timeout

from srgan_tf import files
from srgan_tf.cores import available_cores
from srgan_tf.errors import UserError
from srgan_tf.files import READ_SUFFIXES, Output, first_line
from srgan_tf.inference.beam import storage
from srgan_tf.inference.beam.pipeline import COUNTERS, FAILURES_FILE, Settings, build
from srgan_tf.inference.beam.progress import progress_bar

_OUTPUT = Output()
_PROCESSES = "multi_processing"
# Starts a worker process of Beam's runner on this machine without its notices.
_WORKER = f"{shlex.quote(sys.executable)} -m srgan_tf.inference.beam.worker"
if os.name == "posix":
    _WORKER = f"exec {_WORKER}"  # otherwise Ctrl-C would stop the shell that starts it


@dataclass(frozen=True)
class Summary:
    """Counts of a job.

    Attributes:
        enlarged, skipped, failed: numbers of files.
        megapixels: of all new results together.
    """

    enlarged: int
    skipped: int
    failed: int
    megapixels: float


def upscale_batch(
    inputs: Sequence[str],
    out: str,
    settings: Settings,
    overwrite: bool = False,
    workers: int | None = None,
    runner_options: Sequence[str] = (),
    output: Output = _OUTPUT,
) -> Summary:
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
        UserError: nothing matches, an input is a result, no such model, no such filesystem, or the
            same request is already running on this machine.
    """
    options = PipelineOptions(list(runner_options))
    local = options.view_as(StandardOptions).runner is None
    if local:
        options = PipelineOptions([*_local_runner(workers), *runner_options])
    elif workers is not None:
        raise UserError("--workers is for this machine; give the runner's own option after --")
    FileSystems.set_options(options)
    runner = None
    if local and options.view_as(DirectOptions).direct_running_mode == _PROCESSES:
        # Otherwise Beam would replace the environment by one with its own command.
        options.view_as(DirectOptions).direct_running_mode = "in_memory"
        worker = SubprocessSDKEnvironment.from_command_string(_WORKER)
        runner = FnApiRunner(worker)
    out = storage.absolute(out)
    found = [storage.find(text, out) for text in inputs]
    scale = settings.open().scale
    try:
        pipeline = beam.Pipeline(runner, options)
    except ValueError as error:
        raise UserError(f"Beam's options: {first_line(error)}") from None
    if storage.is_local(out):
        _check_folder(Path(out))

    with _temporary_folder(out, inputs) as partial:
        with progress_bar(local) as tally:
            result = _run(
                build(
                    pipeline,
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
            storage.delete(failures)
    megapixels = counts["pixels"] / 10**6
    return Summary(counts["enlarged"], counts["skipped"], counts["failures"], megapixels)


@contextmanager
def _temporary_folder(out: str, inputs: Sequence[str]) -> Iterator[str]:
    """Return a request's folder of temporary files within OUT, and delete it at the end.

    The same request deletes what a killed job has left. On this machine it runs once at a time.

    Raises:
        UserError: the same request is already running.
    """
    request = hashlib.sha256(os.fsencode("\n".join([out, *sorted(inputs)]))).hexdigest()[:12]
    partial = f"{out}/{files.PARTIAL}{request}"
    lock = FileLock(f"{partial}.lock", blocking=False) if storage.is_local(out) else nullcontext()
    try:
        with lock:
            storage.delete(partial)
            try:
                yield partial
            finally:
                storage.delete(partial)
                if isinstance(lock, FileLock):
                    Path(lock.lock_file).unlink(missing_ok=True)
    except Timeout:
        raise UserError(f"{out}: the same command is already running") from None


def _check_folder(out: Path) -> None:
    """Raise UserError unless the folder of the results exists or can be created."""
    exists = files.is_folder(out)
    if exists is False or (exists is None and out.suffix.lower() in READ_SUFFIXES):
        raise UserError(f"{out}: not a folder; give a folder of results as OUT")
    files.make_writable_folder(out)


def read_failures(out: str) -> list[dict[str, str]]:
    """Return `file` and `reason` of each failed input of the last job, sorted by file."""
    path = f"{storage.absolute(out)}/{FAILURES_FILE}"
    if not FileSystems.exists(path):
        return []
    with FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED) as file:
        return sorted((json.loads(line) for line in file), key=lambda failure: failure["file"])


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
        workers = max(2, available_cores() // 4)
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
    counters = result.metrics().query(MetricsFilter().with_namespace(COUNTERS))["counters"]
    counts = dict.fromkeys(("found", "enlarged", "pixels", "skipped", "failures"), 0)
    for counter in counters:
        counts[counter.key.metric.name] += counter.result
    return counts
