"""A study's folder: its design, its images, its secrets and, with SQLite, its ratings.

study.json      the design
private.json    admin token, signing key, database; readable by the owner only
images/ID.png   versions and calibration images
ratings.db      SQLite database, unless PostgreSQL is used
"""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from sqlalchemy.engine import URL

from srgan_tf.errors import UserError
from srgan_tf.files import first_line, write_text
from srgan_tf.mos.database import Database, parse_url
from srgan_tf.mos.design import Design

DESIGN_FILE = "study.json"
PRIVATE_FILE = "private.json"
IMAGES = "images"
_DATABASE_FILE = "ratings.db"
_Record = TypeVar("_Record", bound=BaseModel)


class Private(BaseModel):
    """A study's secrets.

    Attributes:
        admin_token: password of the admin page.
        signing_key: for raters' links and for forms, hexadecimal.
        database: URL of the PostgreSQL database, None for SQLite in the study's folder.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    admin_token: str
    signing_key: str
    database: str | None = None


def new_private(database: str | None) -> Private:
    """Generate a study's secrets."""
    return Private(
        admin_token=secrets.token_urlsafe(24),
        signing_key=secrets.token_hex(32),
        database=database,
    )


class Study:
    """An existing study.

    Args:
        folder: created by `srgan_tf.mos.create.create`.

    Attributes:
        folder: as given.
        design: the plan, `study.json`.
        private: the secrets, `private.json`.

    Raises:
        UserError: not a study's folder, or a file in it can't be read.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        if not (folder / DESIGN_FILE).is_file():
            raise UserError(f"{folder}: no study here ({DESIGN_FILE}); srgan mos create makes one")
        self.design = _read(folder / DESIGN_FILE, Design)
        self.private = _read(folder / PRIVATE_FILE, Private)

    def image(self, name: str) -> Path:
        """Return the file of a version or calibration image."""
        return self.folder / IMAGES / f"{name}.png"

    def open_database(self) -> Database:
        """Open the database.

        Raises:
            UserError: the database can't be reached, or contains another study.
        """
        database = Database(database_url(self.folder, self.private), self.design.id)
        database.check()
        return database


def database_url(folder: Path, private: Private) -> URL:
    """Return the URL of a study's database."""
    if private.database:
        return parse_url(private.database)
    return URL.create("sqlite", database=str(folder.resolve() / _DATABASE_FILE))


def write_study(folder: Path, design: Design, private: Private) -> None:
    """Write `study.json` and `private.json`."""
    write_text(folder / DESIGN_FILE, design.model_dump_json(indent=1) + "\n")
    write_text(folder / PRIVATE_FILE, private.model_dump_json(indent=1) + "\n", mode=0o600)


def _read(path: Path, kind: type[_Record]) -> _Record:
    try:
        return kind.model_validate(json.loads(path.read_text("utf-8")))
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"]))
        raise UserError(f"{path}: {where}: {problem['msg']}") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: can't be read: {first_line(error)}") from None
