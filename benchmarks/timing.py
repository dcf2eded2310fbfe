"""Timing of functions in turns, so that other work on the machine affects all alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def seconds_in_turns(
    functions: Mapping[str, Callable[[], Any]],
    rounds: int,
    rest: float = 0,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Measure each round of each function, called in turns after two warm-up rounds.

    Args:
        functions: by name.
        rounds: to measure.
        rest: seconds to sleep before each call, as the threads of LiteRT and OpenVINO keep the CPU
            busy for a while after theirs.
        clock: returns seconds.
    """
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(rounds + 2):
        for name, function in functions.items():
            time.sleep(rest)
            started = clock()
            function()
            times[name].append(clock() - started)
    return {name: seconds[2:] for name, seconds in times.items()}


def median_seconds(
    functions: Mapping[str, Callable[[], Any]],
    rounds: int,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Measure the median seconds of each function by `seconds_in_turns`."""
    times = seconds_in_turns(functions, rounds, clock=clock)
    return {name: statistics.median(seconds) for name, seconds in times.items()}


def median_ratio(seconds: Sequence[float], others: Sequence[float]) -> float:
    """Return the median of the rounds' ratios of `seconds` to `others`."""
    return statistics.median(a / b for a, b in zip(seconds, others, strict=True))
