"""A served study under load and under kill -9: acknowledged ratings are kept exactly once."""

import random
import signal
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from .helpers import Robot, make_study, new_client, read_ratings, served

pytestmark = pytest.mark.slow

RATERS = 50


def test_fifty_raters_at_once(url, tmp_path):
    """Each rater uses several tabs that send everything twice; no rating is lost or doubled."""
    folder = tmp_path / "study"
    database = url if url.startswith("postgresql") else None
    codes = make_study(
        folder,
        database,
        invitations=RATERS,
        calibration=0,
        images=6,
        methods=("nearest", "hr"),
        ratings_per_rater=4,
    )
    sent = {}

    def rate_all(number):
        rng = random.Random(number)
        with new_client(address) as client:
            robot = Robot(client)
            robot.join(f"r{number}", codes[number])
            scores = []
            while form := robot.form():
                score = rng.randint(1, 5)
                assert robot.rate(score, form).status_code == 303
                assert robot.rate(1 + score % 5, form).status_code == 303
                scores.append((form["trial"], score))
            sent[number] = scores

    with served(folder) as (_, address, _), ThreadPoolExecutor(RATERS) as pool:
        list(pool.map(rate_all, range(RATERS)))
    ratings = read_ratings(folder)
    assert len(ratings) == RATERS * 4
    given = Counter(rating.version for rating in ratings).values()
    assert len(given) == 12 and max(given) - min(given) <= 2
    found = Counter((rating.rater, rating.position) for rating in ratings)
    assert set(found.values()) == {1}
    scores = sorted(tuple(score for _, score in scores) for scores in sent.values())
    by_rater = [tuple(r.score for r in ratings if r.rater == n) for n in {r.rater for r in ratings}]
    assert sorted(by_rater) == scores


def test_killed_while_raters_rate(tmp_path):
    """After kill -9 all acknowledged ratings are stored, and raters continue."""
    folder = tmp_path / "study"
    make_study(folder, images=10)
    acknowledged = {}

    def rate(robot, stop):
        while not stop.is_set():
            try:
                form = robot.form()
                if form is None:
                    return
                score = random.randint(1, 5)
                if robot.rate(score, form).status_code == 303:
                    acknowledged[form["trial"]] = score
            except httpx.TransportError:
                time.sleep(0.01)  # the server is gone, or a connection to the previous one

    robots: list[Robot] = []
    port = 0
    for _ in range(2):
        stop = threading.Event()
        before = len(acknowledged)
        with served(folder, port) as (process, address, _), ThreadPoolExecutor(4) as pool:
            port = int(address.rsplit(":", 1)[1].strip("/"))
            while len(robots) < 4:
                robots.append(Robot(new_client(address)))
                robots[-1].join()
                robots[-1].calibrate()
            for robot in robots:
                pool.submit(rate, robot, stop)
            deadline = time.monotonic() + 60
            while len(acknowledged) < before + 6 and time.monotonic() < deadline:
                time.sleep(0.01)
            process.send_signal(signal.SIGKILL)
            process.wait()
            stop.set()
        assert len(acknowledged) >= before + 6
        kept = trials(folder)
        assert acknowledged.items() <= kept.items()
        assert len(kept) - len(acknowledged) <= 2 * len(robots)  # stored, but not acknowledged
    for robot in robots:
        robot.client.close()


def trials(folder):
    """Return the score of each rated trial by its token."""
    from sqlalchemy import select

    from srgan_tf.mos.database import _Trial
    from srgan_tf.mos.study import Study

    database = Study(folder).open_database()
    with database._session() as session:
        rows = session.execute(select(_Trial.token, _Trial.score).where(_Trial.score.is_not(None)))
        result = dict(rows.tuples().all())
    database.close()
    return result


def test_stopped_in_order(tmp_path):
    make_study(tmp_path / "study")
    with served(tmp_path / "study") as (process, address, _):
        assert httpx.get(address).status_code == 200
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
