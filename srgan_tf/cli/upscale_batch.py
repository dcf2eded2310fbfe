"""`srgan upscale-batch`: enlarges image files with Apache Beam."""

from __future__ import annotations

import argparse
import logging
import sys
import time
import traceback

from srgan_tf.cli.common import (
    STOPPED,
    add_model_options,
    add_output_options,
    add_size_options,
    output,
    path_or_name,
    prepare_tensorflow,
    result_size,
)
from srgan_tf.errors import UserError, install_command
from srgan_tf.inference.beam.worker import show_errors_only

_SHOWN_FAILURES = 20


def add_parser(commands) -> None:
    parser = commands.add_parser(
        "upscale-batch",
        help="enlarge image files with Apache Beam, on many processes or machines",
        description="Enlarge many image files with an Apache Beam pipeline, on this machine, "
        "Dataflow, Flink or Spark.\nThe results equal those of `srgan upscale`. Needs "
        f"{install_command('beam')}.",
        usage="%(prog)s [options] INPUT... -o OUT [-- RUNNER_OPTIONS]",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="""\
examples:
  srgan upscale-batch photos -o enlarged
  srgan upscale-batch 'photos/2024-*/**.jpg' scans -o enlarged --workers 4
  srgan upscale-batch 's3://bucket/photos/**' -o s3://bucket/enlarged
  srgan upscale-batch 'gs://bucket/photos/**' -o gs://bucket/enlarged -- \\
      --runner=DataflowRunner --project=mine --region=europe-west1 \\
      --temp_location=gs://bucket/temp --sdk_container_image=IMAGE

In patterns * and ? match anything but /, ** also matches /; the name of an existing file or
folder is not a pattern. Links are followed. Results keep their names, their format (unless
--format is given) and the folders below the first wildcard. s3:// needs apache-beam[aws], gs://
needs apache-beam[gcp].

Existing results are skipped unless --overwrite is given, and results are written atomically, so
an interrupted command can be run again to continue. Inputs that can't be enlarged are listed with
the reason in OUT/failures.jsonl and retried by the next run.

Each worker process uses as many threads as there are cores, or TF_NUM_INTRAOP_THREADS. The number
affects how some pixels are rounded: with the same number, results equal those of `srgan upscale`
bit for bit.

exit codes: 0 all done; 1 some inputs failed, or the job; 2 the request is wrong.""",
    )
    parser.add_argument(
        "inputs",
        nargs="+",
        type=path_or_name,
        metavar="INPUT",
        help="a file, a folder (searched recursively) or a pattern in quotes; local, "
        "s3://BUCKET/… or gs://BUCKET/…",
    )
    parser.add_argument(
        "-o",
        "--out",
        required=True,
        type=path_or_name,
        metavar="OUT",
        help="a folder, local or in object storage",
    )
    add_model_options(parser)
    add_output_options(parser)
    add_size_options(parser)
    parser.add_argument(
        "--tile-batch-size",
        type=int,
        default=1,
        metavar="N",
        help="tiles per call of the network, for GPUs and Keras generators; above 1, a few pixels "
        "may be rounded to the next level (default: 1)",
    )
    parser.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="worker processes on this machine (default: a quarter of the cores, at least 2)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace existing results")
    parser.set_defaults(command=_upscale_batch)


def _upscale_batch(arguments: argparse.Namespace) -> int:
    prepare_tensorflow()
    handler = show_errors_only()
    try:
        from srgan_tf.inference.beam.job import read_failures, upscale_batch
        from srgan_tf.inference.beam.pipeline import FAILURES_FILE, Settings
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("apache_beam"):
            raise
        raise UserError(f"upscale-batch needs Apache Beam: {install_command('beam')}") from None

    if arguments.runner_options:
        handler.setLevel(logging.WARNING)
    settings = Settings(
        arguments.model,
        arguments.tile,
        arguments.self_ensemble,
        arguments.precision,
        arguments.tile_batch_size,
        arguments.engine,
        result_size(arguments),
    )
    started = time.monotonic()
    try:
        summary = upscale_batch(
            arguments.inputs,
            arguments.out,
            settings,
            arguments.overwrite,
            arguments.workers,
            arguments.runner_options,
            output(arguments),
        )
    except UserError:
        raise
    except KeyboardInterrupt:
        print("Stopped; run the same command again to continue", file=sys.stderr)
        return STOPPED
    except Exception:  # runners raise different errors for a failed worker
        traceback.print_exc()
        print("The job failed; run the same command again to continue", file=sys.stderr)
        return 1
    seconds = time.monotonic() - started
    print(
        f"{summary.enlarged} files enlarged to {summary.megapixels:.1f} megapixels in "
        f"{seconds:.0f} s; {summary.skipped} existed already; {summary.failed} failed"
    )
    if not summary.failed:
        return 0
    failures = read_failures(arguments.out)
    for failure in failures[:_SHOWN_FAILURES]:
        print(f"{failure['file']}: {failure['reason']}", file=sys.stderr)
    more = len(failures) - _SHOWN_FAILURES
    print(
        f"{f'and {more} more: ' if more > 0 else ''}{arguments.out}/{FAILURES_FILE}",
        file=sys.stderr,
    )
    return 1
