"""Suppression of what native code prints to stderr."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

# A program that prints the suppressed output when its stdin closes: when this process has died.
_BUFFER = "import sys; sys.stderr.buffer.write(sys.stdin.buffer.read())"
_STDERR_LOCK = threading.RLock()


@contextmanager
def suppress_native_output() -> Iterator[None]:
    """Suppress the output that native code writes to the process' stderr.

    If the process dies within the block, the output is printed. The output of other threads is
    suppressed too: for commands, not for library functions.
    """
    with _STDERR_LOCK:
        try:
            buffer = subprocess.Popen(
                [sys.executable, "-ISc", _BUFFER],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                start_new_session=True,  # so that Ctrl-C does not reach it
            )
        except OSError:  # no process can be started: let the output through
            yield
            return
        assert buffer.stdin is not None
        if sys.stderr is not None:
            sys.stderr.flush()
        with buffer.stdin:
            terminal = os.dup(2)
            os.dup2(buffer.stdin.fileno(), 2)
            try:
                yield
            finally:
                os.dup2(terminal, 2)
                os.close(terminal)
                buffer.kill()
                buffer.wait()
