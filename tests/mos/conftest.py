"""Databases: SQLite files, and a PostgreSQL server that the tests start."""

import os
import random
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from srgan_tf.mos import design
from srgan_tf.mos.database import Database
from srgan_tf.mos.design import Design, Version


def make_design(images=4, methods=("nearest", "srresnet-mse", "hr"), **changes) -> Design:
    versions = tuple(
        Version(id=f"{i:02d}{method}", set="S", image=f"i{i}", method=method, width=8, height=8)
        for i in range(images)
        for method in methods
    )
    values = {
        "id": "d" * 32,
        "title": "Study",
        "consent": "Consent",
        "scale": 4,
        "versions": versions,
        "calibration": (),
        "ratings_per_rater": len(versions) + changes.get("repeats", 0),
        "repeats": 0,
        "invitation_only": False,
        "created": "2017-07-21T00:00:00+00:00",
    }
    return Design(**values | changes)


def draw_from(plan, seed=0):
    """Return a function that draws a rater's showings, for `Database.join`."""
    rng = random.Random(seed)
    return lambda counts: design.draw(plan, counts, rng)


@pytest.fixture(scope="session")
def postgresql():
    """The socket folder of a running PostgreSQL server."""
    found = [*Path("/usr/lib/postgresql").glob("*/bin/initdb"), shutil.which("initdb")]
    if found[0] is None:
        pytest.skip("PostgreSQL's initdb is not installed")
    programs = Path(found[0]).parent
    # PostgreSQL refuses to run as root.
    as_user = (
        {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}
    )
    with tempfile.TemporaryDirectory(prefix="srgan_tf-pg-", dir="/tmp") as folder:
        if as_user:
            shutil.chown(folder, "nobody", "nogroup")
        data, options = f"{folder}/data", f"-c listen_addresses= -k {folder} -c max_connections=80"

        def run(*command):
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, **as_user)
            assert done.returncode == 0, done.stdout + done.stderr

        run(programs / "initdb", "-D", data, "-U", "mos", "-A", "trust", "--no-sync", "-E", "UTF8")
        log = f"{folder}/log"
        run(programs / "pg_ctl", "-D", data, "-l", log, "-o", options, "-w", "start")
        try:
            yield folder
        finally:
            run(programs / "pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    """The URL of an empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/ratings.db"
    folder = request.getfixturevalue("postgresql")
    server = f"postgresql+psycopg://mos@/postgres?host={folder}"
    name = f"study_{random.getrandbits(64)}"
    engine = create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return f"postgresql://mos@/{name}?host={folder}"


@pytest.fixture
def database(url):
    opened = Database(url, "d" * 32)
    opened.create()
    yield opened
    opened.close()
