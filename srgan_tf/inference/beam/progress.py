"""Progress of a job, from worker processes to a bar on the terminal."""

from __future__ import annotations

import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tqdm import tqdm

FOUND, DONE = b"+", b"-"


def mark(tally: str | None, marks: bytes) -> None:
    """Append marks, `FOUND` or `DONE` per file, to the file of `progress_bar`, if there is one."""
    if tally is not None:
        with open(tally, "ab", buffering=0) as file:  # noqa: PTH123
            file.write(marks)


@contextmanager
def progress_bar(local: bool) -> Iterator[str | None]:
    """Show how many files are done, if workers are on this machine and stderr is a terminal.

    Yields:
        Path of the file to which worker processes append by `mark`; None without a bar.
    """
    if not (local and sys.stderr.isatty()):
        yield None
        return
    ended = threading.Event()
    with tempfile.NamedTemporaryFile() as tally, tqdm(unit="file", total=0) as progress:

        def watch() -> None:
            found, last = 0, False
            while not last:
                last = ended.wait(0.5)
                marks = tally.read()
                found += marks.count(FOUND)
                progress.total = found
                progress.update(marks.count(DONE))

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield tally.name
        finally:
            ended.set()
            watcher.join()
