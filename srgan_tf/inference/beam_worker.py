"""A worker process of Beam's, without the notices that it prints when it starts."""

from __future__ import annotations

import logging
import sys


def show_errors_only() -> logging.Handler:
    """Prints errors alone of what Python code logs; the handler's level can be changed."""
    handler = logging.StreamHandler()
    handler.setLevel(logging.ERROR)
    logging.basicConfig(handlers=[handler])
    return handler


if __name__ == "__main__":
    show_errors_only()
    from apache_beam.runners.worker.sdk_worker_main import main

    main(sys.argv)
