"""Raters' orders and subsets: balanced, separated and complete."""

import itertools
import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from srgan_tf.mos import design
from srgan_tf.mos.design import Design, Version


def make(methods_of_images, ratings_per_rater=None, repeats=0, methods=design.PAPER_METHODS):
    """Return a design with one image per number of methods."""
    versions = tuple(
        Version(id=f"{image}-{name}", set="S", image=str(image), method=name, width=8, height=8)
        for image, number in enumerate(methods_of_images)
        for name in methods[-number:]
    )
    return Design(
        id="d",
        title="t",
        consent="c",
        scale=4,
        versions=versions,
        calibration=(),
        ratings_per_rater=ratings_per_rater or len(versions) + repeats,
        repeats=repeats,
        invitation_only=False,
        created="2017-07-21T00:00:00+00:00",
    )


def apart(showings):
    images = [showing.version.image for showing in showings]
    return all(a != b for a, b in itertools.pairwise(images))


def test_the_papers_design():
    """12·19 + 9·100 = 1128 ratings per rater (Ledig et al. 2017, Section 3.4)."""
    sizes = {"Set5": 5, "Set14": 14, "BSD100": 100}
    assert sum(sizes[name] * len(methods) for name, methods in design.PAPER_SETS.items()) == 1128
    plan = make([12] * 19 + [9] * 100, repeats=10)
    showings = design.draw(plan, {}, random.Random(1))
    assert len(showings) == 1138 and apart(showings)
    first = [showing.version.id for showing in showings if not showing.repeat]
    assert sorted(first) == sorted(version.id for version in plan.versions)
    repeats = [(place, s.version) for place, s in enumerate(showings) if s.repeat]
    assert len({version.id for _, version in repeats}) == 10
    for place, version in repeats:
        assert version.method == "hr"
        assert place - showings.index(design.Showing(version, False)) > 1138 // 4


def test_raters_get_different_orders():
    plan = make([4] * 5)
    orders = {tuple(s.version.id for s in design.draw(plan, {}, random.Random(i))) for i in (1, 2)}
    assert len(orders) == 2


def test_an_image_is_equally_likely_at_every_place():
    plan = make([2] * 4)
    first = Counter(design.draw(plan, {}, random.Random(i))[0].version.id for i in range(4000))
    assert len(first) == 8 and all(400 < count < 600 for count in first.values())


@given(
    images=st.lists(st.integers(1, 12), min_size=2, max_size=8),
    repeats=st.integers(0, 3),
    seed=st.integers(0, 1000),
)
def test_orders_are_complete_and_keep_versions_of_an_image_apart(images, repeats, seed):
    plan = make(images, repeats=repeats)
    showings = design.draw(plan, {}, random.Random(seed))
    assert apart(showings)
    first = [showing.version.id for showing in showings if not showing.repeat]
    assert len(set(first)) == len(first)
    if design.order_exists(version.image for version in plan.versions):
        assert len(first) == len(plan.versions)
    for place, showing in enumerate(showings):
        if showing.repeat:
            assert design.Showing(showing.version, False) in showings[:place]


@given(
    images=st.integers(4, 12),
    methods=st.integers(2, 12),
    share=st.floats(0.1, 1.0),
    raters=st.integers(1, 12),
    seed=st.integers(0, 1000),
)
def test_subsets_keep_counts_equal(images, methods, share, raters, seed):
    number = max(4, round(share * images * methods))
    plan = make([methods] * images, ratings_per_rater=number)
    counts = Counter({version.id: 0 for version in plan.versions})
    for rater in range(raters):
        showings = design.draw(plan, counts, random.Random(seed + rater))
        assert len(showings) == number and apart(showings)
        given = [showing.version.id for showing in showings]
        assert len(set(given)) == number
        counts.update(given)
    # With fewer than four complete images per rater, separating them takes precedence.
    most = 1 if number >= 4 * methods else 2
    assert max(counts.values()) - min(counts.values()) <= most


def test_a_subset_of_the_papers_design_compares_methods_on_the_same_images():
    plan = make([12] * 19 + [9] * 100, ratings_per_rater=150, repeats=10)
    showings = design.draw(plan, {}, random.Random(3))
    first = [showing for showing in showings if not showing.repeat]
    assert (len(showings), len(first)) == (150, 140)
    versions = Counter(showing.version.image for showing in first)
    cut = [n for image, n in versions.items() if n != (12 if int(image) < 19 else 9)]
    assert len(cut) <= 1  # only the last image is incomplete


@pytest.mark.parametrize("hr", [0, 2])
def test_repeats_are_of_others_where_hr_is_rare(hr):
    plan = make([4] * 10, repeats=5)
    versions = [
        version.model_copy(update={"method": "hr" if index < hr else "nearest"})
        for index, version in enumerate(plan.versions)
    ]
    plan = plan.model_copy(update={"versions": tuple(versions)})
    counts = Counter()
    for seed in range(20):
        showings = design.draw(plan, {}, random.Random(seed))
        repeated = [showing.version.method for showing in showings if showing.repeat]
        assert len(showings) == 45 and len(repeated) == 5
        counts[repeated.count("hr")] += 1
    assert counts.most_common(1)[0][0] == max(counts) == hr  # one at the end can't be repeated


def test_one_image_alone_has_no_order():
    assert not design.order_exists("aaab")
    assert design.order_exists("aab") and design.order_exists([])
