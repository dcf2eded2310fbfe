"""Add a finished run's generator to the released weights, with scores and a LiteRT model.

    python tools/release.py RUN_DIR --data DIR

A release of the same name is replaced only by one with a higher PSNR on the same held-out photos,
or with --replace; the benchmark sets are not used for selection. DIR contains SET/HR/*.png and
SET/LRx4/*.png. The card gets PSNR and SSIM on Y, without a border of `scale` pixels, of the
upscaler's PNG files, the training curves and the weights' SHA-256. `srgan upscale` runs the LiteRT
model.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import tensorflow as tf
from release_litert import is_exportable, write_litert
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import srgan_tf.weights
from srgan_tf.cli.common import run
from srgan_tf.errors import UserError
from srgan_tf.evaluation.benchmark import evaluate
from srgan_tf.evaluation.methods import open_methods
from srgan_tf.evaluation.metrics import Psnr, Ssim
from srgan_tf.evaluation.sets import open_sets
from srgan_tf.files import atomic_write, sha256, write_json
from srgan_tf.training.history import read_card
from srgan_tf.weights import CARD_FILE, GENERATOR_FILE

SETS = ("Set5", "Set14", "BSD100")
PATHS = ("source", "weights", "start_from")


def card_of(folder: Path) -> dict[str, Any]:
    """Return a finished run's card. Raises UserError without one."""
    card = read_card(folder / GENERATOR_FILE)
    if not card:
        raise UserError(f"{folder}: no {CARD_FILE}; has its run ended?")
    return card


def score(model: Path, data: Path, scale: int) -> dict[str, dict[str, float]]:
    """Compute mean PSNR (dB) and SSIM on Y on the benchmark sets."""
    (method,), _ = open_methods([f"run={model}"], scale)
    scores = evaluate(open_sets(data, list(SETS), scale), [method], [Psnr(), Ssim()])
    if scores.failures:
        raise UserError("\n".join(scores.failures))
    return {
        name: {
            metric: round(scores.mean(name, "run", metric) or 0.0, digits)
            for metric, digits in (("psnr", 3), ("ssim", 4))
        }
        for name in SETS
    }


def curve(logs: Path) -> list[dict[str, float]]:
    """Read a run's TensorBoard logs.

    Returns:
        One row per logged step, with `psnr` and `ssim` of validations and, for a GAN, all logs of
        one batch: losses, D(HR), D(SR) and the norms of gradients. None of a run of the portable
        step that TensorFlow has not finished, as it has no logs.
    """
    if not logs.is_dir():
        return []
    events = EventAccumulator(str(logs), size_guidance={"tensors": 0})
    events.Reload()
    logged = events.Tags()["tensors"]
    names = {f"validation/{measure}": measure for measure in ("psnr", "ssim")}
    if "train/d_loss" in logged:
        names |= {tag: tag.removeprefix("train/") for tag in logged if tag.startswith("train/")}
    rows: dict[int, dict[str, float]] = {}  # by step: a resumed run may have logged one twice
    for tag, name in names.items():
        for event in events.Tensors(tag):
            value = float(tf.make_ndarray(event.tensor_proto))
            rows.setdefault(event.step, {"step": event.step})[name] = round(value, 4)
    return [rows[step] for step in sorted(rows)]


def strip_folders(tree: Any) -> None:
    """Replace paths in recipes by their last component, so that folders are not published."""
    if isinstance(tree, list):
        for each in tree:
            strip_folders(each)
    elif isinstance(tree, dict):
        for key, value in tree.items():
            if key in PATHS and isinstance(value, str) and not value.startswith("tfds:"):
                tree[key] = Path(value).name
            else:
                strip_folders(value)


def held_out_photos(card: dict[str, Any]) -> tuple[Any, ...]:
    """Return the identity of a card's validation photos; PSNRs are comparable if it is equal."""
    data = card["recipe"]["data"]
    return (
        card["data"]["fingerprint"],
        card["data"]["held_out"],
        card["recipe"]["seed"],
        data["validation_crop"],
        data.get("degradation"),
    )


def reason_to_keep(before: dict[str, Any], card: dict[str, Any]) -> str | None:
    """Return why to keep a release; None if the new one is better on held-out photos."""
    if "validation" not in before or "validation" not in card:
        return "or this run was not validated: compare both with tools/heldout.py"
    if held_out_photos(before) != held_out_photos(card):
        return "was validated on other photos: compare both with tools/heldout.py"
    psnr, new = before["validation"]["psnr"], card["validation"]["psnr"]
    if new <= psnr:
        return f"has {psnr:.3f} dB on held-out photos, this run {new:.3f} dB"
    return None


def release(arguments: argparse.Namespace) -> int:
    card = card_of(arguments.run)
    target = Path(srgan_tf.weights.__file__).with_name(f"{card['name']}.keras")
    card_file = target.with_suffix(".json")
    if card_file.exists() and not arguments.replace:
        before = json.loads(card_file.read_text(encoding="utf-8"))
        if reason := reason_to_keep(before, card):
            raise UserError(
                f"the released {card['name']} is kept: it {reason}. --replace replaces it"
            )
    card["scores"] = score(arguments.run, arguments.data, card["scale"])
    card["curve"] = curve(arguments.run / "logs")
    weights = arguments.run / GENERATOR_FILE
    card["sha256"] = sha256(weights)
    strip_folders(card)
    if arguments.note:
        card["note"] = arguments.note
    print(json.dumps(card["scores"], indent=2))

    if is_exportable(card):
        write_litert(weights, target.with_suffix(".tflite"))
    with atomic_write(target) as temporary:
        shutil.copyfile(weights, temporary)
    write_json(card_file, card)
    print(f"Released {target}")
    return 0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, metavar="RUN_DIR")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--note", metavar="TEXT", help="note to users, for the card")
    parser.add_argument(
        "--replace",
        action="store_true",
        help="replace a release whatever its PSNR, which an adversary trades for detail",
    )
    run(parser, None, release)


if __name__ == "__main__":
    main()
