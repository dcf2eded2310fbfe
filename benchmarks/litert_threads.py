"""Measure two LiteRT engines with one thread each against one engine with two threads.

    python benchmarks/litert_threads.py [--model NAME] [--out FILE]

Both enlarge the same tiles, in turns. Two engines take twice the memory.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from timing import median_ratio, seconds_in_turns

from srgan_tf.files import write_json
from srgan_tf.inference.litert import LiteRTEngine
from srgan_tf.weights import DEFAULT_MODEL, find_litert

OUT = Path(__file__).resolve().parent.parent / "docs/results/litert_threads.json"
TILES = {64: 24, 256: 4}
"""Side of the tiles, and how many."""
ROUNDS = 5


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default=DEFAULT_MODEL, help="a released name")
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    path = find_litert(arguments.model)
    if path is None:
        parser.error(f"{arguments.model} is not released as a .tflite model")

    together = LiteRTEngine(path, threads=2)
    apart = [LiteRTEngine(path, threads=1) for _ in range(2)]
    rng = np.random.default_rng(0)
    results = {}
    for side, count in TILES.items():
        tiles = [rng.random((1, side, side, 3), np.float32) for _ in range(count)]

        def all_by(engine: LiteRTEngine, tiles=tiles) -> None:
            for tile in tiles:
                engine(tile)

        def halves(tiles=tiles) -> None:
            with ThreadPoolExecutor(2) as pool:
                list(pool.map(all_by, apart, (tiles[0::2], tiles[1::2])))

        contestants: dict[str, Callable[[], None]] = {
            "one": partial(all_by, together),
            "two": halves,
        }
        times = seconds_in_turns(contestants, ROUNDS, rest=0.3)
        one, two = (statistics.median(seconds) / count for seconds in times.values())
        results[f"{side}×{side}"] = {
            "one_engine": round(one, 4),
            "two_engines": round(two, 4),
            "two_take": round(median_ratio(times["two"], times["one"]), 3),
        }
        print(f"{side}×{side}: {results[f'{side}×{side}']}", flush=True)
    command = "python benchmarks/litert_threads.py"
    write_json(
        arguments.out, {"command": command, "model": arguments.model, "seconds_per_tile": results}
    )


if __name__ == "__main__":
    main()
