"""The store keeps each rating once and for all, on SQLite and PostgreSQL alike."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import update

from srgan_tf.errors import RequestError
from srgan_tf.mos import store as store_module
from srgan_tf.mos.store import InvitationError, Store

from .conftest import draw_from, make_design


def joined(store, plan=None, key="k", nickname="Ada", invitation=None):
    store.join(key, nickname, invitation, draw_from(plan or make_design()))
    return store.rater(key).id


def test_a_rater_from_the_first_trial_to_the_last(store):
    plan = make_design(repeats=2)
    rater = joined(store, plan)
    assert store.rater("k").nickname == "Ada" and store.rater("other") is None
    seen = []
    while task := store.task(rater):
        assert (task.position, task.total) == (len(seen), 14)
        assert store.version(rater, task.token) == task.version
        seen.append(task.version)
        assert store.rate(rater, task.token, task.attempt, 1 + len(seen) % 5, 900, 2.5)
    ratings = store.ratings()
    assert [rating.version for rating in ratings] == seen
    assert Counter(seen) == Counter(v.id for v in plan.versions) + Counter(
        rating.version for rating in ratings if rating.repeat
    )
    assert sum(rating.repeat for rating in ratings) == 2
    assert [rating.score for rating in ratings] == [1 + i % 5 for i in range(1, 15)]
    assert {(rating.milliseconds, rating.pixel_ratio) for rating in ratings} == {(900, 2.5)}
    assert abs(ratings[0].rated - datetime.now(UTC)) < timedelta(minutes=1)
    (progress,) = store.progress()
    assert (progress.rated, progress.total, progress.nickname) == (14, 14, "Ada")


def test_a_rating_counts_once(store):
    rater = joined(store)
    task = store.task(rater)
    assert store.rate(rater, task.token, task.attempt, 4)
    assert not store.rate(rater, task.token, task.attempt, 4)
    assert not store.rate(rater, task.token, task.attempt, 1)
    assert [rating.score for rating in store.ratings()] == [4]


def test_only_the_present_trial_can_be_rated(store):
    rater, other = joined(store), joined(store, key="k2")
    task = store.task(rater)
    assert not store.rate(rater, task.next, 0, 4)
    assert not store.rate(other, task.token, 0, 4)
    assert not store.rate(rater, "0" * 32, 0, 4)
    assert store.ratings() == []


def test_undo_is_one_step_and_old_requests_stay_dead(store):
    rater = joined(store)
    tasks = []
    for score in (2, 3):
        tasks.append(store.task(rater))
        store.rate(rater, tasks[-1].token, 0, score)
    assert store.task(rater).undoable == (tasks[1].token, 0)
    assert not store.undo(rater, tasks[0].token, 0)  # not the last one
    assert store.undo(rater, tasks[1].token, 0)
    assert not store.undo(rater, tasks[1].token, 0)  # replayed
    again = store.task(rater)
    assert (again.token, again.attempt, again.undoable) == (tasks[1].token, 1, None)
    assert not store.undo(rater, tasks[0].token, 0)  # a second step
    assert not store.rate(rater, tasks[1].token, 0, 3)  # a replay of what was undone
    assert store.rate(rater, again.token, 1, 5)
    assert [(rating.score, rating.undone) for rating in store.ratings()] == [(2, 0), (5, 1)]
    assert store.task(rater).undoable == (tasks[1].token, 1)


def test_the_last_rating_can_be_undone(store):
    rater = joined(store)
    assert store.last(rater) is None
    while task := store.task(rater):
        store.rate(rater, task.token, task.attempt, 3)
    assert store.undo(rater, *store.last(rater))
    assert store.task(rater).position == 11 and store.last(rater) is None


def test_images_are_seen_around_the_present_trial_only(store):
    rater = joined(store)
    tokens = []
    for _ in range(4):
        task = store.task(rater)
        tokens.append(task.token)
        store.rate(rater, task.token, 0, 3)
    task = store.task(rater)
    assert store.version(rater, task.next) and store.version(rater, tokens[-1])
    assert store.version(rater, tokens[0]) is None
    assert store.version(joined(store, key="k2"), task.token) is None


def test_two_tabs_at_once(store):
    """Of simultaneous ratings of one trial a single one is taken."""
    rater = joined(store)
    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            task = store.task(rater)
            taken = pool.map(lambda s, t=task: store.rate(rater, t.token, 0, s), (1, 2, 3, 4, 5))
            assert sum(taken) == 1
    assert len(store.ratings()) == 5


def test_invitations_are_good_for_one_rater(store):
    first, second = store.invite(2)
    plan = make_design()
    rater = joined(store, plan, "a", invitation=first)
    store.join("a", "Ada", first, draw_from(plan))  # a double click
    assert store.rater("a").id == rater
    with pytest.raises(InvitationError, match="has been used"):
        store.join("b", "Bob", first, draw_from(plan))
    with pytest.raises(InvitationError, match="no such"):
        store.join("b", "Bob", "WRONG", draw_from(plan))
    assert store.invitations() == {first: True, second: False}
    store.invite(1)
    assert list(store.invitations())[:2] == [first, second]
    with pytest.raises(ValueError, match="can be created"):
        store.invite(10_000)


def test_subsets_are_balanced_when_raters_join_at_once(store):
    plan = make_design(images=8, methods=("nearest", "hr"), ratings_per_rater=8)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: joined(store, plan, f"k{i}"), range(10)))
    given = Counter()
    for progress in store.progress():
        while task := store.task(progress.rater):
            given[task.version] += 1
            store.rate(progress.rater, task.token, 0, 3)
    assert set(given.values()) == {5}


def test_what_absent_raters_left_is_given_to_others(store, monkeypatch):
    plan = make_design(images=8, methods=("hr",), ratings_per_rater=4)
    absent = joined(store, plan)
    task = store.task(absent)
    store.rate(absent, task.token, 0, 3)
    with store._session(write=True) as session:
        session.execute(
            update(store_module._Rater).values(seen=datetime.now(UTC) - timedelta(days=4))
        )
    with store._session() as session:
        assert store_module._times_given(session, datetime.now(UTC)) == {task.version: 1}


def test_calibration_goes_forward_page_by_page(store):
    rater = joined(store)
    for page in (0, 0, 2, 1):
        store.calibrate(rater, page)
    assert store.rater("k").calibrated == 2


def test_a_database_belongs_to_one_study(url):
    store = Store(url, "d" * 32)
    store.create()
    store.check()
    with pytest.raises(RequestError, match="contains another study"):
        Store(url, "e" * 32).check()
    with pytest.raises(RequestError, match="contains a study"):
        Store(url, "e" * 32).create()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("no url", "database URL is invalid"),
        ("mysql://a@b/c", "mysql: unsupported database"),
        ("postgresql://mos:secret@127.0.0.1:1/none", "can't be used"),
        ("sqlite:////nowhere/at/all.db", "unable to open"),
    ],
)
def test_databases_that_can_not_be_used(url, words):
    with pytest.raises(RequestError, match=words) as caught:
        Store(url, "d" * 32).create()
    assert "secret" not in str(caught.value)
