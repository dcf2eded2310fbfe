"""Statistics of opinion scores: means, significance and raters' consistency."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

SIGNIFICANT = 0.05
# Raters below or above these are flagged.
MIN_CORRELATION = 0.5
MAX_REPEAT_DIFFERENCE = 1.0


@dataclass(frozen=True)
class Rating:
    """One score from 1 to 5; `repeat` if this rater had scored the version before."""

    rater: int
    set: str
    image: str
    method: str
    score: int
    repeat: bool = False


@dataclass(frozen=True)
class Opinion:
    """The mean opinion score of a method on a set.

    Attributes:
        mean: of all ratings.
        low, high: its 95 % confidence interval; None with fewer than two raters.
        count: number of ratings.
        raters: number of raters.
        distribution: number of ratings of 1, 2, 3, 4 and 5.
    """

    mean: float
    low: float | None
    high: float | None
    count: int
    raters: int
    distribution: tuple[int, ...]


@dataclass(frozen=True)
class Comparison:
    """Two methods on a set, by the raters who rated both on the same images.

    Attributes:
        first, second: the methods.
        difference: mean over raters of their mean score for first minus second.
        raters: number of raters.
        p: of the two-sided Wilcoxon signed-rank test over raters.
        p_corrected: by Holm's method, for all pairs of methods on the set.
    """

    first: str
    second: str
    difference: float
    raters: int
    p: float
    p_corrected: float


@dataclass(frozen=True)
class Consistency:
    """A rater's agreement with themselves and with the others.

    Attributes:
        rater: the rater's number.
        count: number of ratings, without repeats.
        mean: mean of these ratings.
        correlation: Pearson's, with the mean of the other raters' scores of the same versions;
            None if undefined.
        repeats: number of versions rated twice.
        repeat_equal: share of these given the same score; None without repeats.
        repeat_difference: mean absolute difference of the two scores; None without repeats.
        flags: reasons to check this rater.
    """

    rater: int
    count: int
    mean: float
    correlation: float | None
    repeats: int
    repeat_equal: float | None
    repeat_difference: float | None
    flags: tuple[str, ...]


def opinion(ratings: Sequence[Rating]) -> Opinion:
    """Compute the mean opinion score of ratings.

    Ratings of one rater are not independent, so the interval is Student's over raters: if all gave
    the same number of ratings, that of the raters' means, otherwise its generalisation for
    clusters of unequal size.

    Args:
        ratings: at least one; no repeats.
    """
    scores = np.array([rating.score for rating in ratings], float)
    mean = float(scores.mean())
    residuals: dict[int, float] = defaultdict(float)
    for rating in ratings:
        residuals[rating.rater] += rating.score - mean
    raters = len(residuals)
    low = high = None
    if raters > 1:
        squares = sum(residual**2 for residual in residuals.values())
        error = math.sqrt(raters / (raters - 1) * squares) / len(scores)
        margin = float(stats.t.ppf(0.975, raters - 1)) * error
        low, high = max(1.0, mean - margin), min(5.0, mean + margin)
    counts = tuple(int(count) for count in np.bincount(scores.astype(int), minlength=6)[1:])
    return Opinion(mean, low, high, len(scores), raters, counts)


def compare(ratings: Iterable[Rating], methods: Sequence[str]) -> list[Comparison]:
    """Compare all pairs of methods on one set.

    The paper tests significance by paired two-sided Wilcoxon signed-rank tests, p < 0.05
    (Ledig et al. 2017, Section 3.4). Here a pair is a rater's mean scores for the two methods
    on the images they rated with both: single ratings of a rater are not independent, and
    pairing them would overstate significance. Fewer than six raters can't reach p < 0.05.

    Args:
        ratings: of one set, no repeats.
        methods: in the order wanted.
    """
    scores: dict[str, dict[int, dict[str, int]]] = defaultdict(lambda: defaultdict(dict))
    for rating in ratings:
        scores[rating.method][rating.rater][rating.image] = rating.score
    pairs = list(itertools.combinations(methods, 2))
    differences = [_differences(scores[first], scores[second]) for first, second in pairs]
    p = [signed_rank_p(values) for values in differences]
    return [
        Comparison(*pair, float(np.mean(values)) if len(values) else math.nan, len(values), *ps)
        for pair, values, ps in zip(pairs, differences, zip(p, holm(p), strict=True), strict=True)
    ]


def signed_rank_p(differences: Sequence[float]) -> float:
    """Compute the p-value of Wilcoxon's two-sided signed-rank test, dropping zeros.

    It is exact up to 100 differences, with or without ties, by counting the signs that give each
    rank sum. SciPy is exact without ties only; its permutation test takes seconds for 13.
    """
    # Rounded, so that equal differences tie.
    values = np.round(np.asarray(differences, float), 9)
    values = values[values != 0]
    if not len(values):
        return 1.0
    if len(values) > 100:
        return float(stats.wilcoxon(values, method="asymptotic").pvalue)
    ranks = np.rint(2 * stats.rankdata(abs(values))).astype(int)  # doubled: ties have halves
    probability = np.ones(1)
    for rank in ranks:
        shifted = np.zeros(rank)
        probability = (np.append(probability, shifted) + np.append(shifted, probability)) / 2
    total = ranks[values > 0].sum()
    return min(1.0, 2 * float(min(probability[: total + 1].sum(), probability[total:].sum())))


def holm(p: Sequence[float]) -> list[float]:
    """Correct p-values for multiple tests by Holm's step-down method (Holm 1979)."""
    corrected = [1.0] * len(p)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        largest = max(largest, min(1.0, p[index] * (len(p) - rank)))
        corrected[index] = largest
    return corrected


def consistency(ratings: Sequence[Rating]) -> list[Consistency]:
    """Compute each rater's agreement with themselves and the others, ordered by number.

    Flagged are raters rejected by the screening of ITU-R BT.500, with a correlation with the others
    below `MIN_CORRELATION`, with repeats that differ by more than `MAX_REPEAT_DIFFERENCE`, or
    with the same score throughout.
    """
    first = [rating for rating in ratings if not rating.repeat]
    scores: dict[tuple[str, str, str], dict[int, int]] = defaultdict(dict)
    for rating in first:
        scores[_version(rating)][rating.rater] = rating.score
    rejected = screen(list(scores.values()))
    results = []
    for rater in sorted({rating.rater for rating in first}):
        own = [(given, others) for given in scores.values() if (others := _without(given, rater))]
        values = [given[rater] for given in scores.values() if rater in given]
        correlation = _correlation(
            [given[rater] for given, _ in own], [float(np.mean(others)) for _, others in own]
        )
        gaps = [
            abs(rating.score - scores[_version(rating)][rater])
            for rating in ratings
            if rating.repeat and rating.rater == rater and rater in scores[_version(rating)]
        ]
        difference = float(np.mean(gaps)) if gaps else None
        flags = []
        if rater in rejected:
            flags.append("rejected by the screening of ITU-R BT.500")
        if correlation is not None and correlation < MIN_CORRELATION:
            flags.append(f"correlation with the others below {MIN_CORRELATION}")
        if difference is not None and difference > MAX_REPEAT_DIFFERENCE:
            flags.append(f"repeats differ by more than {MAX_REPEAT_DIFFERENCE:g} on average")
        if len(values) > 1 and len(set(values)) == 1:
            flags.append("the same score throughout")
        results.append(
            Consistency(
                rater,
                len(values),
                float(np.mean(values)),
                correlation,
                len(gaps),
                float(np.mean([gap == 0 for gap in gaps])) if gaps else None,
                difference,
                tuple(flags),
            )
        )
    return results


def screen(versions: Iterable[dict[int, int]]) -> set[int]:
    """Return the raters that the screening of ITU-R BT.500 (Annex 1, § 2.3) rejects.

    A score is an outlier at two standard deviations from the version's mean, or √20 if the
    scores' kurtosis is outside [2, 4]. Raters with more than 5 % outliers are rejected if these
    lie about equally above and below: consistently strict or mild raters are kept.

    Args:
        versions: for each version, a dictionary of scores by rater.
    """
    above: dict[int, int] = defaultdict(int)
    below: dict[int, int] = defaultdict(int)
    rated: dict[int, int] = defaultdict(int)
    for given in versions:
        scores = np.array(list(given.values()), float)
        for rater in given:
            rated[rater] += 1
        if len(scores) < 3 or scores.std() == 0:
            continue
        kurtosis = float(stats.kurtosis(scores, fisher=False))
        margin = (2.0 if 2 <= kurtosis <= 4 else math.sqrt(20)) * scores.std(ddof=1)
        for rater, score in given.items():
            above[rater] += bool(score >= scores.mean() + margin)
            below[rater] += bool(score <= scores.mean() - margin)
    return {
        rater
        for rater, count in rated.items()
        if (far := above[rater] + below[rater]) / count > 0.05
        and abs(above[rater] - below[rater]) / far < 0.3
    }


def _differences(
    first: dict[int, dict[str, int]], second: dict[int, dict[str, int]]
) -> list[float]:
    """Compute the mean score of first minus second, for each rater who rated both on an image."""
    differences = []
    for rater in sorted(first.keys() & second.keys()):
        images = first[rater].keys() & second[rater].keys()
        if images:
            total = sum(first[rater][image] - second[rater][image] for image in images)
            differences.append(total / len(images))
    return differences


def _correlation(a: Sequence[float], b: Sequence[float]) -> float | None:
    if len(a) < 3 or len(set(a)) == 1 or len(set(b)) == 1:
        return None
    return float(np.corrcoef(a, b)[0, 1])


def _without(given: dict[int, int], rater: int) -> list[int]:
    """Return the other raters' scores of a version that this rater rated."""
    return [score for other, score in given.items() if other != rater] if rater in given else []


def _version(rating: Rating) -> tuple[str, str, str]:
    return rating.set, rating.image, rating.method
