"""What all commands share: exit codes, signals, and a quiet TensorFlow."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import warnings
from collections.abc import Callable

from srgan_tf.errors import RequestError


def run(command: Callable[[argparse.Namespace], int], arguments: argparse.Namespace) -> None:
    """Runs a command and exits: 0 done, 1 some inputs failed, 2 the request is wrong."""
    # As an exception, so that nothing half-written stays behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    warnings.showwarning = lambda message, *_, **__: print(f"warning: {message}", file=sys.stderr)
    try:
        sys.exit(command(arguments))
    except RequestError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def import_tensorflow() -> None:
    """Imports TensorFlow without the notices that its native code writes to stderr."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as notices:
        os.dup2(notices.fileno(), 2)
        try:
            import tensorflow as tf

            tf.config.list_physical_devices()
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
