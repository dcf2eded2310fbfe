"""Statistics, against SciPy and values computed by hand."""

import itertools
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from srgan_tf.mos import analysis
from srgan_tf.mos.analysis import Rating

# Four raters, three images, two methods.
SCORES = {
    "a": [[2, 3, 3], [1, 2, 3], [3, 3, 4], [2, 2, 2]],
    "b": [[4, 4, 5], [3, 4, 4], [4, 5, 5], [3, 3, 3]],
}
RATINGS = [
    Rating(rater, "S", f"i{image}", method, score)
    for method, by_rater in SCORES.items()
    for rater, scores in enumerate(by_rater, 1)
    for image, score in enumerate(scores)
]


def of(method):
    return [rating for rating in RATINGS if rating.method == method]


def test_opinions_by_hand():
    """Raters' means of a are 8/3, 2, 10/3 and 2: mean 2.5, standard deviation 0.6383."""
    result = analysis.opinion(of("a"))
    assert result.mean == 2.5 and (result.count, result.raters) == (12, 4)
    assert result.distribution == (1, 5, 5, 1, 0)
    assert result.high - result.mean == pytest.approx(3.1824 * 0.6383 / 2, abs=1e-3)


def test_the_interval_is_students_over_raters():
    means = [np.mean(scores) for scores in SCORES["b"]]
    low, high = stats.t.interval(0.95, 3, np.mean(means), stats.sem(means))
    result = analysis.opinion(of("b"))
    assert (result.low, result.high) == pytest.approx((low, min(high, 5.0)))


def test_intervals_of_unequal_raters_cover_the_mean():
    """By simulation: 95 % of the intervals should hold the mean of all possible raters."""
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(400):
        ratings = []
        for rater in range(20):
            mean = rng.choice([2, 3, 4])
            for image in range(rng.integers(1, 6)):
                score = int(mean + rng.choice([-1, 0, 1]))
                ratings.append(Rating(rater, "S", str(image), "m", score))
        result = analysis.opinion(ratings)
        held += result.low <= 3 <= result.high
    assert 0.91 < held / 400 < 0.985


def test_one_rater_has_no_interval():
    result = analysis.opinion(of("a")[:3])
    assert (result.low, result.high, result.raters) == (None, None, 1)


@given(st.lists(st.integers(1, 30), min_size=1, max_size=12, unique=True), st.integers(0, 4095))
def test_signed_rank_equals_scipys_exact_test(sizes, signs):
    values = [size if signs >> i & 1 else -size for i, size in enumerate(sizes)]
    expected = stats.wilcoxon(values, method="exact").pvalue
    assert analysis.signed_rank_p(values) == pytest.approx(expected)


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=8))
def test_signed_rank_with_ties_equals_trying_all_signs(values):
    kept = np.array([value for value in values if value])
    ranks = stats.rankdata(abs(kept))
    sums = [
        ranks[np.array(signs) > 0].sum() for signs in itertools.product((1, -1), repeat=len(kept))
    ]
    found = ranks[kept > 0].sum()
    tail = min(np.mean(np.array(sums) >= found), np.mean(np.array(sums) <= found))
    assert analysis.signed_rank_p(values) == pytest.approx(min(1.0, 2 * tail))


def test_signed_rank_of_many():
    values = np.random.default_rng(0).normal(0.2, 1, 120)
    expected = stats.wilcoxon(values, method="exact").pvalue
    assert analysis.signed_rank_p(values) == pytest.approx(expected, rel=0.1)


def test_holm_by_hand():
    """Holm 1979: 4·0.01, 3·0.02, then not below what came before."""
    assert analysis.holm([0.02, 0.03, 0.01, 0.9]) == pytest.approx([0.06, 0.06, 0.04, 0.9])
    assert analysis.holm([]) == [] and analysis.holm([0.7, 0.6]) == [1.0, 1.0]


def test_comparisons_pair_raters_on_the_images_they_rated_with_both():
    (result,) = analysis.compare(RATINGS, ["a", "b"])
    assert (result.first, result.second, result.raters) == ("a", "b", 4)
    assert result.difference == pytest.approx(-17 / 12)
    assert result.p == result.p_corrected == 0.125  # 2 · 2⁻⁴: all four differ the same way
    partly = [r for r in RATINGS if not (r.method == "b" and r.image == "i0" and r.rater == 1)]
    (result,) = analysis.compare(partly, ["a", "b"])
    assert result.difference == pytest.approx((-1.5 - 5 / 3 - 4 / 3 - 1) / 4)


def test_significance_needs_six_raters():
    def p(raters):
        ratings = [
            Rating(r, "S", "i", method, score)
            for r in range(raters)
            for method, score in (("a", 1), ("b", 5))
        ]
        return analysis.compare(ratings, ["a", "b"])[0].p

    assert p(5) == 0.0625 and p(6) == 0.03125


def test_methods_never_rated_together():
    ratings = [Rating(1, "S", "i", "a", 3), Rating(2, "S", "i", "b", 4)]
    (result,) = analysis.compare(ratings, ["a", "b"])
    assert result.raters == 0 and result.p == 1.0 and np.isnan(result.difference)


def test_consistency_by_hand():
    repeats = [Rating(1, "S", "i0", "a", 2, True), Rating(1, "S", "i1", "a", 5, True)]
    first = analysis.consistency(RATINGS + repeats)[0]
    assert (first.rater, first.count, first.repeats) == (1, 6, 2)
    assert (first.repeat_equal, first.repeat_difference) == (0.5, 1.0)
    own = [2, 3, 3, 4, 4, 5]
    others = [2, 7 / 3, 3, 10 / 3, 4, 4]
    assert first.correlation == pytest.approx(stats.pearsonr(own, others).statistic)
    assert first.mean == 3.5 and first.flags == ()


def crowd(odd, seed=0):
    """Return ratings of twenty raters who agree except for noise, and of number 99, by `odd`."""
    rng = random.Random(seed)
    ratings = []
    for image in range(60):
        truth = 1 + image % 5
        for rater in range(20):
            score = min(5, max(1, truth + rng.choice([-1, 0, 0, 0, 1])))
            ratings.append(Rating(rater, "S", str(image), "m", score))
        ratings.append(Rating(99, "S", str(image), "m", odd(truth, rng)))
    return ratings


@pytest.mark.parametrize(
    ("odd", "words"),
    [
        (lambda truth, rng: rng.randint(1, 5), "BT.500"),
        (lambda truth, rng: 6 - truth, "correlation"),
        (lambda truth, rng: 3, "the same score throughout"),
    ],
)
def test_odd_raters_are_flagged_and_no_others(odd, words):
    results = analysis.consistency(crowd(odd))
    assert [result.rater for result in results if result.flags] == [99]
    assert words in "; ".join(results[-1].flags)


def test_strict_raters_are_not_flagged():
    assert not analysis.consistency(crowd(lambda truth, rng: max(1, truth - 1)))[-1].flags


def test_unsteady_raters_are_flagged():
    ratings = crowd(lambda truth, rng: truth)
    ratings += [
        Rating(99, "S", str(image), "m", (1 + image % 5 + 2) % 5 + 1, True) for image in range(9)
    ]
    assert "repeats differ" in analysis.consistency(ratings)[-1].flags[0]
