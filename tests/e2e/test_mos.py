"""`srgan mos` as a user runs it: the command line, and a real browser."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from mos.conftest import draw_from
from mos.helpers import make_study, served
from PIL import Image

from srgan_tf import cli, weights
from srgan_tf.evaluation.methods import Nearest
from srgan_tf.mos import report
from srgan_tf.mos.study import Study


def images(folder, number, side, seed):
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for index in range(number):
        pixels = rng.integers(0, 256, (side, side, 3), np.uint8)
        exif = Image.Exif()
        exif[0x010E] = "a description"
        Image.fromarray(pixels).save(folder / f"i{index}.png", exif=exif)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    images(folder / "sets/Set5/HR", 3, 24, 0)
    images(folder / "theirs/Set5", 3, 24, 1)
    images(folder / "photos", 2, 24, 2)
    return folder


@pytest.fixture
def srgan(capsys):
    """Run `srgan mos` in this process; return the exit code and its output."""

    def run(*arguments):
        with pytest.raises(SystemExit) as caught:
            cli.main(["mos", *map(str, arguments)])
        shown = capsys.readouterr()
        return caught.value.code, shown.out + shown.err

    return run


def create(srgan, data, study, *more):
    return srgan(
        *("create", study, "--data", data / "sets", "--sets", "Set5"),
        *("--methods", f"nearest,theirs={data / 'theirs'},hr"),
        *("--calibration", data / "photos", "--calibration-images", 2, *more),
    )


def test_create_makes_the_requested_study(srgan, data, tmp_path):
    code, shown = create(srgan, data, tmp_path / "study", "--repeats", 1, "--invitations", 2)
    assert code == 0 and "9 versions of 3 images; 10 ratings per rater, 1 of them repeats" in shown
    study = Study(tmp_path / "study")
    design = study.design
    assert {version.method for version in design.versions} == {"nearest", "theirs", "hr"}
    assert len(design.calibration) == 2 and design.invitation_only
    for version in design.versions:
        with Image.open(study.image(version.id)) as image:
            assert image.size == (24, 24) and not image.getexif() and "exif" not in image.info
            pixels = np.asarray(image)
        source = {"hr": "sets/Set5/HR", "theirs": "theirs/Set5"}.get(version.method)
        if source:
            with Image.open(data / source / f"{version.image}.png") as image:
                assert np.array_equal(pixels, np.asarray(image))
        else:
            assert np.array_equal(pixels, pixels[::4, ::4].repeat(4, 0).repeat(4, 1))
    assert (tmp_path / "study" / "private.json").stat().st_mode & 0o077 == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["study"]
    database = study.open_database()
    assert len(database.invitations()) == 2
    database.close()


def test_wrong_requests(srgan, data, tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "_FOLDER", tmp_path)  # nothing is released
    (tmp_path / "there").mkdir()
    study = tmp_path / "study"
    for arguments, words in [
        (["create", study, "--data", data / "sets"], "no such set"),
        (["create", study, "--data", data / "sets", "--sets", "Set5"], "--methods nearest,bicubic"),
        (["create", study, "--data", data / "sets", "--sets", "New"], "with --methods"),
        (["create", study, "--data", data / "none", "--sets", "Set5"], "no such folder"),
        (["serve", tmp_path / "there"], "no study"),
        (["report", tmp_path / "there"], "no study"),
    ]:
        code, shown = srgan(*arguments)
        assert code == 2 and words in shown, shown
    for more, words in [
        (["--methods", "Set5:hr,hr"], "none empty or given twice"),
        (["--methods", "nearest"], "given twice"),
        (["--methods", "Set5:hr,mine="], "mine=: the path is missing"),
        (["--methods", "Set5:nearest,nearest=theirs,hr"], "nearest is given twice"),
        (["--calibration", data / "sets/Set5/HR", "--calibration-images", 1], "contains Set5/"),
        (["--calibration-images", 5], "2 calibration images, not 5"),
        (["--ratings-per-rater", 50], "not 50"),
        (["--invitations", 0], "--open needs no"),
        (["--invitations", 100_000], "--invitations must be from 1 to 10000"),
        (["--repeats", -1], "repeats must be at least 0, not -1"),
        (["--calibration-images", 0], "calibration images must be at least 1, not 0"),
        (["--database", "mysql://a/b"], "mysql: unsupported"),
        (["--consent", tmp_path / "none.txt"], "none.txt: can't be read"),
    ]:
        code, shown = create(srgan, data, study, *more)
        assert code == 2 and words in shown, shown
    assert create(srgan, data, tmp_path / "there")[0] == 2
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


def test_folders_that_can_t_be_written_to_are_found_before_the_work(
    srgan, data, tmp_path, monkeypatch
):
    (tmp_path / "file").touch()
    for study in (tmp_path / "file" / "study", Path("/proc/study")):
        with monkeypatch.context() as patch:
            patch.setattr(Nearest, "enlarge", None)
            code, shown = create(srgan, data, study)
        assert code == 2 and f"{study.parent}: can't be written to" in shown, shown

    study = tmp_path / "study"
    make_study(study)
    rate_all(study)
    with monkeypatch.context() as patch:
        patch.setattr(report, "analyse", None)
        code, shown = srgan("report", study, "--out", tmp_path / "file")
    assert code == 2 and "file: can't be written to" in shown, shown
    code, shown = srgan("report", study)
    assert code == 0, shown


def rate_all(folder):
    """Let one rater rate every version."""
    study = Study(folder)
    database = study.open_database()
    database.join("key", "Ada", None, draw_from(study.design))
    rater = database.rater("key").id
    while trial := database.trial(rater):
        assert database.rate(rater, trial.token, trial.attempt, 3)
    database.close()


@pytest.mark.slow
def test_a_study_in_a_browser(srgan, data, tmp_path, browser):
    """Rating by keys, mouse and touch, with reloads, personal links and undo; then a report."""
    study = tmp_path / "study"
    assert create(srgan, data, study, "--repeats", 0, "--open")[0] == 0
    with served(study) as (_, address, token):
        rate_by_keys(browser, address)
        rate_by_mouse(browser, address)
        look_on(browser, address, token)
    code, shown = srgan("report", study)
    assert code == 0, shown
    folder = study / "report"
    with (folder / "ratings.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 18
    keys = [int(row["score"]) for row in rows if row["rater"] == "1"]
    assert keys == [1, 5, 3, 4, 5, 1, 2, 3, 4]
    assert [row["undone"] for row in rows if row["rater"] == "1"].count("1") == 1
    assert {row["pixel_ratio"] for row in rows if row["rater"] == "2"} == {"2.0", "3.0"}
    assert all(300 < int(row["milliseconds"]) < 300_000 for row in rows)
    results = json.loads((folder / "results.json").read_text())
    for method, opinion in results["opinions"]["Set5"].items():
        scores = [int(row["score"]) for row in rows if row["method"] == method]
        assert opinion["mean"] == pytest.approx(np.mean(scores)) and opinion["count"] == 6
    text = (folder / "report.md").read_text()
    assert "18 ratings by 2 raters" in text and "| the paper | 1.28 |" in text
    with Image.open(folder / "distribution.png") as image:
        assert image.width > 400
    assert "<svg" in (folder / "distribution.svg").read_text()
    code, shown = srgan("report", study, "--exclude", "1", "--out", tmp_path / "less")
    assert code == 0 and "9 ratings by 1 rater," in (tmp_path / "less/report.md").read_text()
    assert srgan("report", study, "--exclude", "7")[0] == 2


def join(page, address, nickname):
    page.goto(address)
    page.get_by_label("Nickname").fill(nickname)
    page.get_by_label("I have read this").check()
    page.get_by_role("button", name="Begin").click()
    page.get_by_role("heading", name=f"Welcome, {nickname}").wait_for()
    return page.get_by_label("Your personal link").input_value()


def wait_for(page, number):
    """Wait for a picture, and until it can be rated."""
    page.wait_for_function(
        "title => document.title.startsWith(title) && document.querySelector('#picture').complete",
        arg=f"Picture {number} of 9",
    )
    page.wait_for_timeout(450)  # earlier clicks count as meant for the page before


def rate_by_keys(browser, address):
    """Rate with the keyboard only, from the first page to the last."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    page = context.new_page()
    problems = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda m: m.type == "error" and problems.append(m.text))
    page.goto(address)
    page.keyboard.press("Tab")
    page.keyboard.type("Keys")
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Welcome, Keys").wait_for()
    page.keyboard.press("Enter")  # Continue has the focus
    for number in (1, 2):
        page.get_by_role("heading", name=f"Example {number} of 2").wait_for()
        page.keyboard.press("Enter")
    wait_for(page, 1)
    for number, key in enumerate(["1", "5", "3"], 1):
        page.keyboard.press(key)
        page.keyboard.press(key)  # hasty: must not rate the next picture
        wait_for(page, number + 1)
    page.reload()
    wait_for(page, 4)
    page.keyboard.press("2")
    wait_for(page, 5)
    page.keyboard.press("u")
    wait_for(page, 4)
    assert page.get_by_role("button", name="Undo").count() == 0
    page.keyboard.press("4")
    wait_for(page, 5)
    page.keyboard.press("p")
    page.get_by_role("heading", name="Take a break, Keys").wait_for()
    page.keyboard.press("Enter")
    for number, key in enumerate(["5", "1", "2", "3"], 5):
        wait_for(page, number)
        page.keyboard.press(key)
    wait_for(page, 9)
    page.go_back()  # an old page shows the present picture
    wait_for(page, 9)
    page.keyboard.press("4")
    page.get_by_role("heading", name="Thank you, Keys").wait_for()
    assert not problems
    context.close()


def rate_by_mouse(browser, address):
    """Rate with the mouse, two tabs and double clicks; then on a phone, by the personal link."""
    context = browser.new_context(viewport={"width": 1280, "height": 800}, device_scale_factor=2)
    page = context.new_page()
    link = join(page, address, "Mouse")
    page.get_by_role("link", name="Continue").click()
    page.get_by_role("button", name="Next example").click()
    page.get_by_role("button", name="Begin to rate").click()
    wait_for(page, 1)
    assert page.locator("#picture").bounding_box()["width"] == 24  # 2 screen pixels per pixel
    second = context.new_page()
    second.goto(f"{address}rate")
    wait_for(second, 1)
    page.get_by_role("button", name="4 good").dblclick()
    wait_for(page, 2)
    second.get_by_role("button", name="1 bad").click()  # rated already
    wait_for(second, 2)
    context.close()

    phone = browser.new_context(
        viewport={"width": 390, "height": 844},
        device_scale_factor=3,
        is_mobile=True,
        has_touch=True,
    )
    page = phone.new_page()
    page.goto(link)
    for number in range(2, 10):
        wait_for(page, number)
        button = page.get_by_role("button", name=f"{number % 5 + 1} ")
        assert button.bounding_box()["height"] >= 44
        button.tap()
    page.get_by_role("heading", name="Thank you, Mouse").wait_for()
    phone.close()


def look_on(browser, address, token):
    page = browser.new_page()
    page.goto(f"{address}admin")
    page.get_by_label("Admin token").fill(token)
    page.get_by_role("button", name="Open").click()
    page.get_by_role("cell", name="Mouse").wait_for()
    assert page.locator("dd").all_text_contents()[:3] == ["2", "2", "18"]
    with page.expect_download() as download:
        page.get_by_role("link", name="ratings.csv").click()
    assert len(Path(download.value.path()).read_text().splitlines()) == 19
    page.close()
