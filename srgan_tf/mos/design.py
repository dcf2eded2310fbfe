"""A study's design: the versions to rate, and the order in which a rater sees them."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field

HR = "hr"
# Ledig et al. 2017, Section 3.4 and Tables 1 and 2.
PAPER_METHODS = (
    "nearest",
    "bicubic",
    "srcnn",
    "selfexsr",
    "drcn",
    "espcn",
    "srresnet-mse",
    "srresnet-vgg22",
    "srgan-mse",
    "srgan-vgg22",
    "srgan-vgg54",
    HR,
)
NOT_ON_BSD100 = ("srresnet-vgg22", "srgan-mse", "srgan-vgg22")
PAPER_SETS = {
    "Set5": PAPER_METHODS,
    "Set14": PAPER_METHODS,
    "BSD100": tuple(name for name in PAPER_METHODS if name not in NOT_ON_BSD100),
}
SCORE_LABELS = {1: "bad", 2: "poor", 3: "fair", 4: "good", 5: "excellent"}
# Least distance of a repeat, as a share of the study, so that the first showing is forgotten.
_REPEAT_DISTANCE = 0.25


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Version(_Record):
    """One image as enlarged by one method; `id`, the name of its file, is random."""

    id: str
    set: str
    image: str
    method: str
    width: int
    height: int


class Calibration(_Record):
    """File ids of two versions of an image, as examples of the scores 1 and 5."""

    bad: str
    excellent: str
    width: int
    height: int


class Design(_Record):
    """A study's plan, which does not change once it is created.

    Attributes:
        id: of the study, random.
        title: shown to raters.
        consent: the text that raters agree to; paragraphs are separated by empty lines.
        scale: ratio of a version's side to the LR image's.
        versions: all versions to rate.
        calibration: shown before the ratings.
        ratings_per_rater: number of ratings per rater, repeats included.
        repeats: number of these that repeat an image, to measure consistency.
        invitation_only: raters need a code to join.
        created: UTC, ISO 8601.
    """

    id: str
    title: str
    consent: str
    scale: int
    versions: tuple[Version, ...] = Field(min_length=1)
    calibration: tuple[Calibration, ...]
    ratings_per_rater: int = Field(ge=1)
    repeats: int = Field(ge=0)
    invitation_only: bool
    created: str


class Showing(NamedTuple):
    """A version in a rater's order; `repeat` if it was seen before."""

    version: Version
    repeat: bool


def draw(design: Design, counts: Mapping[str, int], rng: random.Random) -> list[Showing]:
    """Draw a rater's showings, in order.

    The rater gets the versions shown least so far, with all versions of an image where possible,
    so that counts stay balanced and methods are compared by the same rater on the same images. Two
    versions of an image never follow each other. Repeats are of HR, or of any method if there are
    too few, and come long after their first showing.

    Args:
        design: of the study.
        counts: how often each version id has been given to raters; 0 if missing.
        rng: random number generator.

    Returns:
        `design.ratings_per_rater` showings; fewer only if there are too few images to separate
        the versions of each.
    """
    number = design.ratings_per_rater - design.repeats
    chosen = _least_shown(design.versions, counts, number, rng)
    order = [Showing(version, False) for version in _order_apart(chosen, rng)]
    return _insert_repeats(order, design.repeats, rng)


def order_exists(images: Iterable[object]) -> bool:
    """Return whether versions of these images can be shown with no image twice in a row."""
    counts = Counter(images)
    return not counts or max(counts.values()) <= (counts.total() + 1) // 2


def _least_shown(
    versions: Sequence[Version], counts: Mapping[str, int], number: int, rng: random.Random
) -> list[Version]:
    """Return the `number` versions with the lowest counts, of as few images as possible."""
    levels: dict[int, dict[tuple[str, str], list[Version]]] = defaultdict(dict)
    for version in versions:
        image = (version.set, version.image)
        levels[counts.get(version.id, 0)].setdefault(image, []).append(version)
    chosen: list[Version] = []
    taken: Counter[tuple[str, str]] = Counter()
    for level in sorted(levels):
        groups = list(levels[level].items())
        rng.shuffle(groups)
        # Too few images would be recognised; more than half of one image can't be separated.
        for most in (max(number // 4, 1), (number + 1) // 2):
            for image, group in groups:
                rng.shuffle(group)
                room = max(0, min(number - len(chosen), most - taken[image]))
                chosen += group[:room]
                taken[image] += len(group[:room])
                del group[:room]
    return chosen


def _order_apart(versions: Iterable[Version], rng: random.Random) -> list[Version]:
    """Return a random order with no image twice in a row, dropping versions that don't fit."""
    groups: dict[tuple[str, str], list[Version]] = defaultdict(list)
    for version in versions:
        groups[version.set, version.image].append(version)
    for group in groups.values():
        rng.shuffle(group)
    order: list[Version] = []
    last = None
    left = sum(map(len, groups.values()))
    while left:
        weights = {image: len(group) for image, group in groups.items() if group and image != last}
        if not weights:
            break
        largest = max(weights, key=weights.__getitem__)
        if 2 * weights[largest] > left:  # otherwise its versions could not be separated later
            image = largest
        else:
            image = rng.choices(list(weights), list(weights.values()))[0]
        order.append(groups[image].pop())
        last = image
        left -= 1
    return order


def _insert_repeats(order: list[Showing], number: int, rng: random.Random) -> list[Showing]:
    candidates = [showing.version for showing in order]
    # Prefer HR, then those shown in the first half, which leave room for a distance.
    early = {showing.version.id for showing in order[: len(order) // 2]}
    rng.shuffle(candidates)
    candidates.sort(key=lambda version: (version.method != HR, version.id not in early))
    order = list(order)
    inserted = 0
    for version in candidates:
        if inserted == number:
            break
        first = order.index(Showing(version, False))
        image = (version.set, version.image)
        places = [
            place
            for place in range(first + 1, len(order) + 1)
            if all((s.version.set, s.version.image) != image for s in order[place - 1 : place + 1])
        ]
        distant = [p for p in places if p - first >= _REPEAT_DISTANCE * len(order)]
        if places:
            order.insert(rng.choice(distant or places), Showing(version, True))
            inserted += 1
    return order
