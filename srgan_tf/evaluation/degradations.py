"""Reproducible degradations of LR, as cameras, web sites and chat programs cause them.

A degradation is written as its steps joined by `+`, in order, such as `noise5+jpeg75`. The result
depends on the pixels, the file name and the versions of NumPy and Pillow only.
"""

from __future__ import annotations

import difflib
import io
import os
import re
import zlib
from dataclasses import dataclass

import numpy as np
from PIL import Image

from srgan_tf.errors import UserError

# Margin of a shift on the other side: half a block of subsampled JPEG chroma.
_MARGIN = 8


@dataclass(frozen=True)
class _StepKind:
    """A kind of step: its syntax, the limits of its numbers, and an example of these."""

    syntax: str
    numbers: re.Pattern[str]
    limits: tuple[int, int]
    example: str


_KINDS = {
    "jpeg": _StepKind("jpegQ (quality 1 to 100)", re.compile(r"(\d+)"), (1, 100), "75"),
    "webp": _StepKind("webpQ (quality 0 to 100)", re.compile(r"(\d+)"), (0, 100), "75"),
    "noise": _StepKind("noiseS (σ 0 to 100)", re.compile(r"(\d+(?:\.\d+)?)"), (0, 100), "5"),
    "shift": _StepKind("shiftX.Y (0 to 15 pixels)", re.compile(r"(\d+)\.(\d+)"), (0, 15), "5.3"),
}
_ALIASES = {"resaved": "jpeg85+shift5.3+jpeg60"}
_SYNTAX = (
    f"clean, or steps joined by +: {', '.join(kind.syntax for kind in _KINDS.values())}, "
    + ", ".join(f"{alias} ({steps})" for alias, steps in _ALIASES.items())
)


@dataclass(frozen=True)
class Degradation:
    """A sequence of degradation steps.

    - `jpegQ`, `webpQ`: save with quality Q and decode again, by Pillow, which halves the
      resolution of JPEG's chroma.
    - `noiseS`: add Gaussian noise with a standard deviation of S grey levels to each channel.
    - `shiftX.Y`: pad by reflection, X pixels at the left and Y at the top, and crop after the
      last step, so that later JPEG blocks are not aligned with earlier ones.

    Attributes:
        name: the steps joined by `+`, or `clean`.
        steps: kind and numbers of each; empty if clean.
    """

    name: str
    steps: tuple[tuple[str, tuple[float, ...]], ...]

    def __call__(self, image: np.ndarray, file_name: str) -> np.ndarray:
        """Degrade an image.

        Args:
            image: uint8 [H, W, 3].
            file_name: with its suffix; the seed of the noise.

        Returns:
            uint8 [H, W, 3].
        """
        height, width = image.shape[:2]
        top = left = 0
        rng = np.random.default_rng(zlib.crc32(os.fsencode(file_name)))
        for kind, numbers in self.steps:
            if kind == "noise":
                noisy = image + rng.normal(0, numbers[0], image.shape)
                image = np.clip(np.rint(noisy), 0, 255).astype(np.uint8)
            elif kind == "shift":
                x, y = map(int, numbers)
                image = np.pad(image, [(y, _MARGIN), (x, _MARGIN), (0, 0)], "reflect")
                top, left = top + y, left + x
            else:
                image = _recompress(image, kind, int(numbers[0]))
        return image[top : top + height, left : left + width]


CLEAN = Degradation("clean", ())


def _recompress(image: np.ndarray, kind: str, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(image).save(file, kind, quality=quality)
    return np.asarray(Image.open(file).convert("RGB"))


def parse_degradation(text: str) -> Degradation:
    """Parse a degradation, such as `clean`, `jpeg75`, `noise2.5+webp60` or `resaved`.

    Raises:
        UserError: not a degradation; the message names the nearest.
    """
    if text == CLEAN.name:
        return CLEAN
    names: list[str] = []
    steps: list[tuple[str, tuple[float, ...]]] = []
    for word in text.split("+"):
        try:
            word_steps = [_step(part) for part in _ALIASES.get(word, word).split("+")]
        except ValueError:
            raise UserError(
                f"{text}: no such degradation, did you mean {_nearest(text)}? Use {_SYNTAX}"
            ) from None
        steps += word_steps
        names += [word] if word in _ALIASES else [_format_step(*step) for step in word_steps]
    return Degradation("+".join(names), tuple(steps))


def _step(word: str) -> tuple[str, tuple[float, ...]]:
    """Parse a step into its kind and numbers. Raises ValueError."""
    name = word[: _letters(word)]
    match = name in _KINDS and _KINDS[name].numbers.fullmatch(word.removeprefix(name))
    if not match:
        raise ValueError(word)
    numbers = tuple(map(float, match.groups()))
    low, high = _KINDS[name].limits
    if not low <= min(numbers) <= max(numbers) <= high:
        raise ValueError(word)
    return name, numbers


def _letters(word: str) -> int:
    """Return the number of characters before the first digit."""
    return next((index for index, sign in enumerate(word) if sign.isdigit()), len(word))


def _format_step(name: str, numbers: tuple[float, ...]) -> str:
    return name + ".".join(f"{number:g}" for number in numbers)


def _nearest(text: str) -> str:
    words = [word for word in text.lower().split("+") if word not in ("", CLEAN.name)]
    return "+".join(map(_nearest_step, words)) or CLEAN.name


def _nearest_step(word: str) -> str:
    (name,) = difflib.get_close_matches(word[: _letters(word)], [*_KINDS, *_ALIASES], n=1, cutoff=0)
    if name in _ALIASES:
        return name
    kind = _KINDS[name]
    numbers = (kind.numbers.findall(word) or kind.numbers.findall(kind.example))[0]
    return _format_step(name, tuple(np.clip(np.atleast_1d(numbers).astype(float), *kind.limits)))
