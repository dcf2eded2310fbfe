"""A worker process of Beam without the notices that it prints when it starts."""

from __future__ import annotations

import logging
import signal
import sys


def show_errors_only() -> logging.Handler:
    """Print only errors that Python code logs, and return the handler, whose level can be set."""
    handler = logging.StreamHandler()
    handler.setLevel(logging.ERROR)
    logging.basicConfig(handlers=[handler])
    return handler


if __name__ == "__main__":
    # Ctrl-C reaches all processes of a terminal; the main one stops the job.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    show_errors_only()
    from apache_beam.runners.worker.sdk_worker_main import main

    main(sys.argv)
