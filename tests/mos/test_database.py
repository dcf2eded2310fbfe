"""The database, on SQLite and PostgreSQL: each rating is kept exactly once."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import update

from srgan_tf.errors import UserError
from srgan_tf.mos import database as database_module
from srgan_tf.mos.database import Database, InvitationError

from .conftest import draw_from, make_design


def joined(database, plan=None, key="k", nickname="Ada", invitation=None):
    database.join(key, nickname, invitation, draw_from(plan or make_design()))
    return database.rater(key).id


def test_a_rater_from_the_first_trial_to_the_last(database):
    plan = make_design(repeats=2)
    rater = joined(database, plan)
    assert database.rater("k").nickname == "Ada" and database.rater("other") is None
    seen = []
    while trial := database.trial(rater):
        assert (trial.position, trial.total) == (len(seen), 14)
        assert database.version(rater, trial.token) == trial.version
        seen.append(trial.version)
        assert database.rate(rater, trial.token, trial.attempt, 1 + len(seen) % 5, 900, 2.5)
    ratings = database.ratings()
    assert [rating.version for rating in ratings] == seen
    assert Counter(seen) == Counter(v.id for v in plan.versions) + Counter(
        rating.version for rating in ratings if rating.repeat
    )
    assert sum(rating.repeat for rating in ratings) == 2
    assert [rating.score for rating in ratings] == [1 + i % 5 for i in range(1, 15)]
    assert {(rating.milliseconds, rating.pixel_ratio) for rating in ratings} == {(900, 2.5)}
    assert abs(ratings[0].rated - datetime.now(UTC)) < timedelta(minutes=1)
    (progress,) = database.progress()
    assert (progress.rated, progress.total, progress.nickname) == (14, 14, "Ada")


def test_a_rating_counts_once(database):
    rater = joined(database)
    trial = database.trial(rater)
    assert database.rate(rater, trial.token, trial.attempt, 4)
    assert not database.rate(rater, trial.token, trial.attempt, 4)
    assert not database.rate(rater, trial.token, trial.attempt, 1)
    assert [rating.score for rating in database.ratings()] == [4]


def test_only_the_present_trial_can_be_rated(database):
    rater, other = joined(database), joined(database, key="k2")
    trial = database.trial(rater)
    assert not database.rate(rater, trial.next, 0, 4)
    assert not database.rate(other, trial.token, 0, 4)
    assert not database.rate(rater, "0" * 32, 0, 4)
    assert database.ratings() == []


def test_undo_is_one_step_and_repeated_requests_have_no_effect(database):
    rater = joined(database)
    trials = []
    for score in (2, 3):
        trials.append(database.trial(rater))
        database.rate(rater, trials[-1].token, 0, score)
    assert database.trial(rater).undoable == (trials[1].token, 0)
    assert not database.undo(rater, trials[0].token, 0)  # not the last one
    assert database.undo(rater, trials[1].token, 0)
    assert not database.undo(rater, trials[1].token, 0)  # replayed
    again = database.trial(rater)
    assert (again.token, again.attempt, again.undoable) == (trials[1].token, 1, None)
    assert not database.undo(rater, trials[0].token, 0)  # a second step
    assert not database.rate(rater, trials[1].token, 0, 3)  # a replay of what was undone
    assert database.rate(rater, again.token, 1, 5)
    assert [(rating.score, rating.undone) for rating in database.ratings()] == [(2, 0), (5, 1)]
    assert database.trial(rater).undoable == (trials[1].token, 1)


def test_the_last_rating_can_be_undone(database):
    rater = joined(database)
    assert database.last(rater) is None
    while trial := database.trial(rater):
        database.rate(rater, trial.token, trial.attempt, 3)
    assert database.undo(rater, *database.last(rater))
    assert database.trial(rater).position == 11 and database.last(rater) is None


def test_images_are_seen_around_the_present_trial_only(database):
    rater = joined(database)
    tokens = []
    for _ in range(4):
        trial = database.trial(rater)
        tokens.append(trial.token)
        database.rate(rater, trial.token, 0, 3)
    trial = database.trial(rater)
    assert database.version(rater, trial.next) and database.version(rater, tokens[-1])
    assert database.version(rater, tokens[0]) is None
    assert database.version(joined(database, key="k2"), trial.token) is None


def test_two_tabs_at_once(database):
    """Only one of simultaneous ratings of a trial is accepted."""
    rater = joined(database)
    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            trial = database.trial(rater)
            taken = pool.map(
                lambda s, t=trial: database.rate(rater, t.token, 0, s), (1, 2, 3, 4, 5)
            )
            assert sum(taken) == 1
    assert len(database.ratings()) == 5


def test_invitations_are_good_for_one_rater(database):
    first, second = database.invite(2)
    plan = make_design()
    rater = joined(database, plan, "a", invitation=first)
    database.join("a", "Ada", first, draw_from(plan))  # a double click
    assert database.rater("a").id == rater
    with pytest.raises(InvitationError, match="has been used"):
        database.join("b", "Bob", first, draw_from(plan))
    with pytest.raises(InvitationError, match="no such"):
        database.join("b", "Bob", "WRONG", draw_from(plan))
    assert database.invitations() == {first: True, second: False}
    database.invite(1)
    assert list(database.invitations())[:2] == [first, second]
    with pytest.raises(ValueError, match="can be created"):
        database.invite(10_000)


def test_subsets_are_balanced_when_raters_join_at_once(database):
    plan = make_design(images=8, methods=("nearest", "hr"), ratings_per_rater=8)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: joined(database, plan, f"k{i}"), range(10)))
    given = Counter()
    for progress in database.progress():
        while trial := database.trial(progress.rater):
            given[trial.version] += 1
            database.rate(progress.rater, trial.token, 0, 3)
    assert set(given.values()) == {5}


def test_unrated_versions_of_absent_raters_are_given_to_others(database, monkeypatch):
    plan = make_design(images=8, methods=("hr",), ratings_per_rater=4)
    absent = joined(database, plan)
    trial = database.trial(absent)
    database.rate(absent, trial.token, 0, 3)
    with database._session(write=True) as session:
        session.execute(
            update(database_module._Rater).values(seen=datetime.now(UTC) - timedelta(days=4))
        )
    with database._session() as session:
        assert database_module._times_given(session, datetime.now(UTC)) == {trial.version: 1}


def test_calibration_goes_forward_page_by_page(database):
    rater = joined(database)
    for page in (0, 0, 2, 1):
        database.calibrate(rater, page)
    assert database.rater("k").calibrated == 2


def test_a_database_belongs_to_one_study(url):
    database = Database(url, "d" * 32)
    database.create()
    database.check()
    with pytest.raises(UserError, match="contains another study"):
        Database(url, "e" * 32).check()
    with pytest.raises(UserError, match="contains a study"):
        Database(url, "e" * 32).create()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("no url", "database URL is invalid"),
        ("mysql://a@b/c", "mysql: unsupported database"),
        ("postgresql://mos:secret@127.0.0.1:1/none", "can't be used"),
        ("sqlite:////nowhere/at/all.db", "unable to open"),
    ],
)
def test_unusable_databases_are_refused(url, words):
    with pytest.raises(UserError, match=words) as caught:
        Database(url, "d" * 32).create()
    assert "secret" not in str(caught.value)
