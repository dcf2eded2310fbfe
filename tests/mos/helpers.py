"""Small studies, and a simulated rater over HTTP."""

import re
import subprocess
import sys
from contextlib import contextmanager
from urllib.parse import urlsplit

import httpx
import numpy as np
from PIL import Image

from srgan_tf.mos.database import Database
from srgan_tf.mos.design import Calibration
from srgan_tf.mos.study import Study, database_url, new_private, write_study

from .conftest import make_design


def make_study(folder, database=None, invitations=0, calibration=1, **changes):
    """Create a study with random images of 8×8 pixels, and return its invitation codes."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    examples = tuple(
        Calibration(bad=f"bad{i}", excellent=f"good{i}", width=8, height=8)
        for i in range(calibration)
    )
    design = make_design(calibration=examples, invitation_only=invitations > 0, **changes)
    names = [version.id for version in design.versions]
    names += [name for example in examples for name in (example.bad, example.excellent)]
    (folder / "images").mkdir(exist_ok=True)
    for name in names:
        pixels = rng.integers(0, 256, (8, 8, 3), np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{name}.png")
    private = new_private(database)
    write_study(folder, design, private)
    database = Database(database_url(folder, private), design.id)
    database.create()
    codes = database.invite(invitations) if invitations else []
    database.close()
    return codes


@contextmanager
def served(folder, port=0):
    """Run `srgan mos serve`; yields its process, address and admin token."""
    program = [sys.executable, "-c", "from srgan_tf.cli import main; main()"]
    process = subprocess.Popen(
        [*program, "mos", "serve", folder, "--port", str(port)], stdout=subprocess.PIPE, text=True
    )
    try:
        address = re.search(r"http://\S+/", process.stdout.readline())[0]
        token = re.search(r"token (\S+)", process.stdout.readline())[1]
        yield process, address, token
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def field(page, name):
    """Return the value of a hidden field in the last form that has it."""
    return re.findall(rf'name="{name}" value="([^"]*)"', page)[-1]


class Robot:
    """A simulated rater; `link` is the personal link after joining."""

    def __init__(self, client):
        self.client = client
        self.link = None

    def get(self, path):
        return self.client.get(path, follow_redirects=True)

    def post(self, path, **fields):
        return self.client.post(path, data=fields)

    def join(self, nickname="Robot", invitation=""):
        page = self.get("/").text
        csrf = field(page, "csrf")
        answer = self.post(
            "/join", csrf=csrf, nickname=nickname, invitation=invitation, consent="yes"
        )
        assert answer.status_code == 303, answer.text
        page = self.get("/welcome").text
        self.link = urlsplit(re.search(r'value="(http\S+/r/[^"]+)"', page)[1]).path
        return answer

    def calibrate(self):
        while "/calibration" in str((answer := self.get("/")).url):
            page = answer.text
            self.post("/calibration", csrf=field(page, "csrf"), number=field(page, "number"))

    def form(self):
        """Return the rating form of the current page; None if all is rated."""
        page = self.get("/rate")
        if page.url.path != "/rate":
            return None
        return {name: field(page.text, name) for name in ("csrf", "trial", "attempt")}

    def rate(self, score, form=None):
        return self.post("/rate", score=score, **(form or self.form()))


def new_client(address):
    return httpx.Client(base_url=address, timeout=60, verify=False)  # loading certificates is slow


def read_ratings(folder):
    """Return all ratings of a study."""
    study = Study(folder)
    database = study.open_database()
    try:
        return database.ratings()
    finally:
        database.close()
