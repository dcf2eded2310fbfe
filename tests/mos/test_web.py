"""The web app over HTTP: raters' pages, and access control."""

import io
import json
import re

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from srgan_tf.mos.study import Study
from srgan_tf.mos.web import create_app

from .helpers import Robot, field, make_study


@pytest.fixture
def study(tmp_path):
    make_study(tmp_path / "study", calibration=2)
    return Study(tmp_path / "study")


@pytest.fixture
def site(study):
    """Return a function that creates clients of one app, each with its own cookies."""
    database = study.open_database()
    app = create_app(study, database)

    def client(**options):
        return TestClient(app, "http://mos.test", follow_redirects=False, **options)

    yield client
    database.close()


@pytest.fixture
def robot(site):
    robot = Robot(site())
    robot.join()
    robot.calibrate()
    return robot


def ratings(study):
    database = study.open_database()
    try:
        return database.ratings()
    finally:
        database.close()


def test_a_study_from_joining_to_the_last_page(site, study):
    robot = Robot(site())
    robot.join("Ada <b>Lovelace</b>")
    assert "Welcome, Ada &lt;b&gt;" in robot.get("/welcome").text
    assert robot.get("/").url.path == "/calibration"
    assert robot.get("/rate").url.path == "/calibration"  # not before it
    assert robot.get("/done").url.path == "/calibration"
    robot.calibrate()
    for number in range(12):
        page = robot.get("/").text
        assert f"Picture {number + 1} of 12" in page
        assert robot.rate(1 + number % 5).headers["location"] == "/rate"
    page = robot.get("/rate")
    assert page.url.path == "/done" and "Thank you, Ada" in page.text
    assert [rating.score for rating in ratings(study)] == [1 + i % 5 for i in range(12)]
    assert robot.get("/pause").status_code == 200


def test_pages_and_images_do_not_reveal_methods(site, study, robot):
    """No names, file ids or headers that are equal for two raters."""
    other = Robot(site())
    other.join()
    other.calibrate()
    secret = {v.method for v in study.design.versions} | {v.id for v in study.design.versions}
    addresses = [set(), set()]
    for rater, seen in zip((robot, other), addresses, strict=True):
        while form := rater.form():
            page = rater.get("/rate").text
            assert not secret & set(re.findall(r"[\w-]+", page))
            assert re.findall(r'src="/images/(\w+)"', page) == [form["trial"]]
            shown = re.findall(r"/images/([0-9a-f]{32})", page)
            assert len(shown) <= 2
            for token in shown:
                seen.add(token)
                answer = rater.get(f"/images/{token}")
                assert answer.headers["cache-control"].startswith("private")
                assert not {"etag", "last-modified"} & set(answer.headers)
            rater.rate(3, form)
    assert len(addresses[0]) == len(addresses[1]) == 12 and not addresses[0] & addresses[1]


def test_images_have_no_metadata_and_belong_to_one_rater(site, study, robot):
    token = robot.form()["trial"]
    content = robot.get(f"/images/{token}").content
    with Image.open(io.BytesIO(content)) as image:
        assert image.size == (8, 8) and not image.getexif()
    stranger = site()
    assert stranger.get(f"/images/{token}").status_code == 303
    other = Robot(site())
    other.join()
    assert other.get(f"/images/{token}").status_code == 404


def test_a_rating_counts_once_whatever_is_sent_again(study, robot):
    form = robot.form()
    for score in (4, 4, 2):
        assert robot.rate(score, form).status_code == 303
    assert [rating.score for rating in ratings(study)] == [4]
    page = robot.get("/rate").text
    undo = dict(
        csrf=field(page, "csrf"),
        trial=re.search(r'action="/undo".*?name="trial" value="(\w+)"', page, re.S)[1],
        attempt=0,
    )
    for _ in range(2):
        assert robot.post("/undo", **undo).status_code == 303
    assert ratings(study) == []
    robot.rate(4, form)  # a replay of what was undone
    assert ratings(study) == []
    robot.rate(5)
    assert [(rating.score, rating.undone) for rating in ratings(study)] == [(5, 1)]


def test_the_personal_link_works_on_another_device(site, study, robot):
    robot.rate(3)
    other = Robot(site())
    assert other.get(robot.link).url.path == "/rate"
    assert "Picture 2 of 12" in other.get("/rate").text
    other.rate(5)
    assert "Picture 3 of 12" in robot.get("/rate").text
    assert len({rating.rater for rating in ratings(study)}) == 1
    assert site().get("/r/" + "x" * 43).status_code == 404


def test_leaving_lets_the_next_rater_join_on_the_same_device(robot, study):
    robot.rate(3)
    page = robot.get("/pause").text
    robot.post("/leave", csrf=field(page, "csrf"))
    assert robot.get("/").url.path == "/" and "Nickname" in robot.get("/").text
    robot.join("Next")
    robot.calibrate()
    robot.rate(4)
    assert [rating.rater for rating in ratings(study)] == [1, 2]


def test_a_double_click_joins_once(site, study):
    client = site()
    csrf = field(client.get("/").text, "csrf")
    for _ in range(2):
        answer = client.post("/join", data=dict(csrf=csrf, nickname="A", consent="yes"))
        assert answer.status_code == 303
    database = study.open_database()
    assert len(database.progress()) == 1
    database.close()


def test_joining_asks_for_a_nickname_and_consent(site):
    client = site()
    csrf = field(client.get("/").text, "csrf")
    for fields, words in [
        (dict(nickname="  \u0000 ", consent="yes"), "nickname of 1 to 40"),
        (dict(nickname="A" * 41, consent="yes"), "nickname of 1 to 40"),
        (dict(nickname="A"), "tick the box"),
        (dict(nickname="A" * 2000, consent="yes"), "nickname"),
    ]:
        answer = client.post("/join", data=dict(csrf=csrf, **fields))
        assert answer.status_code == 422 and words in answer.text


def test_invitations(site, tmp_path):
    (code,) = make_study(tmp_path / "closed", invitations=1)
    study = Study(tmp_path / "closed")
    database = study.open_database()
    app = create_app(study, database)

    def join(code):
        client = TestClient(app, "http://mos.test", follow_redirects=False)
        csrf = field(client.get(f"/?invitation={code}").text, "csrf")
        fields = dict(csrf=csrf, nickname="A", consent="yes", invitation=code)
        return client.post("/join", data=fields)

    assert "no such invitation" in join("").text
    assert "no such invitation" in join("22222-22222").text
    assert join(f"{code[:5].lower()}-{code[5:]} ").status_code == 303
    assert "has been used" in join(code).text
    for _ in range(20):
        answer = join("22222-22222")
    assert answer.status_code == 429 and "Wait a minute" in answer.text
    database.close()


def test_forms_of_other_sites_are_refused(site, study, robot):
    """Cross-site requests have the cookies, but not the form's token."""
    others = field(site().get("/").text, "csrf")
    log_in(robot, study.private.admin_token)
    form = dict(trial="0" * 32, attempt=0)
    for path, fields in {
        "/join": dict(nickname="A", consent="yes"),
        "/calibration": dict(number=0),
        "/rate": form | dict(score=3),
        "/undo": form,
        "/leave": {},
        "/admin/login": dict(token="x"),
        "/admin/logout": {},
        "/admin/invitations": dict(number=1),
    }.items():
        for csrf in ({}, {"csrf": "x" * 43}, {"csrf": others}):
            assert robot.post(path, **csrf, **fields).status_code == 403, path


def test_ratings_out_of_bounds_are_refused(study, robot):
    good = robot.form() | dict(score=3)
    for name, value in [
        ("score", 0),
        ("score", 6),
        ("score", "3.5"),
        ("score", "NaN"),
        ("trial", "../../private"),
        ("attempt", -1),
        ("attempt", 10**30),
        ("milliseconds", -5),
        ("milliseconds", 10**12),
        ("pixel_ratio", "nan"),
        ("pixel_ratio", "inf"),
    ]:
        answer = robot.post("/rate", **(good | {name: value}))
        assert answer.status_code == 422 and name in answer.text
    assert ratings(study) == []


def test_large_requests_are_refused(robot):
    assert robot.post("/rate", **robot.form(), score="3" * 20_000).status_code == 413

    def endless():
        for _ in range(100):
            yield b"a=" + b"b" * 1000 + b"&"

    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    assert robot.client.post("/rate", content=endless(), headers=kind).status_code == 413


def test_no_file_of_the_server_is_reachable(robot):
    for path in [
        "/private.json",
        "/study.json",
        "/ratings.db",
        "/static/../web.py",
        "/static/%2e%2e/web.py",
        "/static/..%2f..%2fweb.py",
        "/images/..%2f..%2fprivate",
        "/images/00hr",
        "/calibration/..%2f..%2fprivate.json",
        "/calibration/00hr",
        "/docs",
        "/openapi.json",
    ]:
        assert robot.client.get(path).status_code in (404, 422), path


def test_every_answer_has_security_headers(site, robot):
    paths = ["/", "/rate", "/nothing", "/admin", f"/images/{robot.form()['trial']}"]
    for path in [*paths, re.search(r"/static/mos\.js\?\w+", robot.get("/rate").text)[0]]:
        headers = robot.client.get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "same-origin"
        assert "cache-control" in headers
    assert robot.get("/rate").headers["cache-control"] == "no-store"
    assert "<script>" not in robot.get("/rate").text and "style=" not in robot.get("/rate").text


def test_an_error_of_ours_shows_no_traceback(site, study, monkeypatch):
    def broken(*_):
        raise RuntimeError("a secret")

    client = site(raise_server_exceptions=False)
    Robot(client).join()
    monkeypatch.setattr("srgan_tf.mos.database.Database.rater", broken)
    answer = client.get("/rate")
    assert answer.status_code == 500 and "secret" not in answer.text
    assert "ratings so far are safe" in answer.text and "x-frame-options" in answer.headers


def test_cookies_are_out_of_scripts_reach_and_secure_over_https(site):
    client = site()
    cookie = client.get("/").headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=lax" in cookie and "Secure" not in cookie
    answer = client.get("https://mos.test/")
    assert "max-age" in answer.headers["strict-transport-security"]
    client.cookies.clear()
    assert "Secure" in client.get("https://mos.test/").headers["set-cookie"]


def log_in(robot, token):
    page = robot.get("/admin").text
    return robot.post(
        "/admin/login",
        csrf=field(page, "csrf"),
        token=token,
    )


def test_the_admin_page_is_behind_its_token(site, study, robot):
    owner = Robot(site())
    paths = ("/admin/ratings.csv", "/admin/ratings.json", "/admin/codebook.md")
    for path in paths:
        assert owner.client.get(path).headers["location"] == "/admin"
    assert "Robot" not in owner.get("/admin").text
    assert log_in(owner, "wrong").status_code == 403
    assert log_in(owner, study.private.admin_token).status_code == 303
    robot.rate(4)
    page = owner.get("/admin").text
    assert "Robot" in page and "Log out" in page
    table = owner.get(paths[0]).text.splitlines()
    assert len(table) == 2 and table[0].startswith("rater,order,set,image,method,repeat,score")
    exported = json.loads(owner.get(paths[1]).text)
    assert [rating["score"] for rating in exported["ratings"]] == [4]
    assert set(exported["codebook"]) == set(exported["ratings"][0])
    assert "Robot" not in owner.get(paths[1]).text + owner.get(paths[0]).text
    assert all(f"| {name} |" in owner.get(paths[2]).text for name in exported["codebook"])
    assert owner.get("/admin/private.json").status_code == 404
    csrf = field(page, "csrf")
    owner.post("/admin/logout", csrf=csrf)
    assert owner.client.get(paths[0]).status_code == 303


def test_admin_tokens_can_not_be_guessed_for_long(site, study):
    owner = Robot(site())
    codes = [log_in(owner, f"guess{i}").status_code for i in range(25)]
    assert set(codes[:20]) == {403} and set(codes[20:]) == {429}
    assert log_in(owner, study.private.admin_token).status_code == 429


def test_the_admin_page_makes_invitations(tmp_path):
    make_study(tmp_path / "closed", invitations=1)
    study = Study(tmp_path / "closed")
    database = study.open_database()
    client = TestClient(create_app(study, database), "http://mos.test", follow_redirects=False)
    owner = Robot(client)
    log_in(owner, study.private.admin_token)
    csrf = field(owner.get("/admin").text, "csrf")
    assert owner.post("/admin/invitations", csrf=csrf, number=3).status_code == 303
    assert len(database.invitations()) == 4
    code = next(iter(database.invitations()))
    assert f"http://mos.test/?invitation={code[:5]}-{code[5:]}" in owner.get("/admin").text
    for number in (0, 501, "many"):
        assert owner.post("/admin/invitations", csrf=csrf, number=number).status_code == 422
    database.close()
