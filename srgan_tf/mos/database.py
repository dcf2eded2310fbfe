"""The database of invitations, raters and ratings: SQLite or PostgreSQL through SQLAlchemy."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import ClassVar

from sqlalchemy import (
    CheckConstraint,
    DateTime,
    Engine,
    ForeignKey,
    String,
    UniqueConstraint,
    create_engine,
    event,
    func,
    insert,
    inspect,
    select,
    update,
)
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from srgan_tf.errors import UserError
from srgan_tf.files import first_line
from srgan_tf.mos.design import Showing

MAX_INVITATIONS = 10_000
MAX_RATERS = 10_000
# Unrated versions of raters who were away this long are given to others.
_ABSENT = timedelta(days=3)
_CODE_LETTERS = "23456789ABCDEFGHJKLMNPQRSTUVWXYZ"  # without 0, 1, I and O
# IMMEDIATE transactions take SQLite's write lock at once, so they can't fail half-way.
_WRITE = {"sqlite_begin": "BEGIN IMMEDIATE"}


class InvitationError(Exception):
    """An invitation code that does not exist or was used; its message is shown to the rater."""


class _Base(DeclarativeBase):
    type_annotation_map: ClassVar = {datetime: DateTime(timezone=True)}


class _Study(_Base):
    __tablename__ = "study"
    id: Mapped[str] = mapped_column(String(32), primary_key=True)


class _Invitation(_Base):
    __tablename__ = "invitation"
    code: Mapped[str] = mapped_column(String(16), primary_key=True)
    number: Mapped[int]


class _Rater(_Base):
    __tablename__ = "rater"
    id: Mapped[int] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(String(64), unique=True)
    nickname: Mapped[str] = mapped_column(String(40))
    invitation: Mapped[str | None] = mapped_column(ForeignKey("invitation.code"), unique=True)
    calibrated: Mapped[int] = mapped_column(default=0)
    joined: Mapped[datetime]
    seen: Mapped[datetime]


class _Trial(_Base):
    """A version given to a rater, with its rating once there is one."""

    __tablename__ = "trial"
    __table_args__ = (
        UniqueConstraint("rater_id", "position"),
        CheckConstraint("score BETWEEN 1 AND 5", name="score_is_1_to_5"),
        CheckConstraint("(score IS NULL) = (rated IS NULL)", name="score_has_a_time"),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    token: Mapped[str] = mapped_column(String(32), unique=True)
    rater_id: Mapped[int] = mapped_column(ForeignKey("rater.id"))
    position: Mapped[int]
    version: Mapped[str] = mapped_column(String(32), index=True)
    repeat: Mapped[bool]
    attempt: Mapped[int] = mapped_column(default=0)
    score: Mapped[int | None]
    rated: Mapped[datetime | None]
    milliseconds: Mapped[int | None]
    pixel_ratio: Mapped[float | None]


@dataclass(frozen=True)
class Rater:
    """A rater; `calibrated` counts the calibration pages seen."""

    id: int
    nickname: str
    calibrated: int


@dataclass(frozen=True)
class Trial:
    """A rater's current trial.

    Attributes:
        token: identifies the trial to the rater.
        attempt: how often its rating was undone.
        position, total: index of the trial among the rater's, from 0, and their number.
        version: id of the version shown.
        next: token of the next trial; None at the end.
        undoable: token and attempt of the previous trial, if its rating may be undone.
    """

    token: str
    attempt: int
    position: int
    total: int
    version: str
    next: str | None
    undoable: tuple[str, int] | None


@dataclass(frozen=True)
class Progress:
    """A rater's progress; times are in UTC."""

    rater: int
    nickname: str
    invitation: str | None
    calibrated: int
    rated: int
    total: int
    joined: datetime
    seen: datetime


@dataclass(frozen=True)
class RatingRow:
    """A rating and its trial; the codebook describes the columns of the same names."""

    rater: int
    position: int
    version: str
    repeat: bool
    undone: int
    score: int
    rated: datetime
    milliseconds: int | None
    pixel_ratio: float | None


class Database:
    """A study's invitations, raters and ratings. Every method is one committed transaction.

    Args:
        url: `sqlite:///FILE` or `postgresql://USER@HOST/DATABASE`.
        study: the study's id; a database belongs to one study.

    Raises:
        UserError: an unsupported or unreachable database.
    """

    def __init__(self, url: str | URL, study: str):
        self._engine = _open_engine(url)
        self._study = study
        # Writers of this process queue here, as SQLite's polling would starve some.
        one_writer = self._engine.dialect.name == "sqlite"
        self._turn: AbstractContextManager = threading.Lock() if one_writer else nullcontext()

    def check_empty(self) -> None:
        """Raise UserError if the database can't be reached or contains a study."""
        with self._explain_errors():
            if inspect(self._engine).has_table(_Study.__tablename__):
                raise UserError(f"{self._name()}: contains a study; give an empty database")

    def create(self) -> None:
        """Create the tables in an empty database.

        Raises:
            UserError: see `check_empty`.
        """
        self.check_empty()
        with self._explain_errors():
            _Base.metadata.create_all(self._engine)
            with self._session(write=True) as session:
                session.add(_Study(id=self._study))

    def check(self) -> None:
        """Raise UserError if the database can't be reached or belongs to another study."""
        with self._explain_errors(), self._session() as session:
            if session.scalar(select(_Study.id)) != self._study:
                raise UserError(
                    f"{self._name()}: contains another study; see `database` in private.json"
                )

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    def invite(self, number: int) -> list[str]:
        """Create invitation codes, each valid for one rater.

        Raises:
            ValueError: there would be more than `MAX_INVITATIONS`.
        """
        codes = ["".join(secrets.choice(_CODE_LETTERS) for _ in range(10)) for _ in range(number)]
        with self._session(write=True) as session:
            first = session.scalar(select(func.count()).select_from(_Invitation)) or 0
            if number < 1 or first + number > MAX_INVITATIONS:
                raise ValueError(f"1 to {MAX_INVITATIONS - first} invitations can be created")
            session.add_all(_Invitation(code=c, number=first + i) for i, c in enumerate(codes))
        return codes

    def invitations(self) -> dict[str, bool]:
        """Return all codes in order of creation, each with whether it was used."""
        query = select(_Invitation.code, _Rater.id.is_not(None)).outerjoin(
            _Rater, _Rater.invitation == _Invitation.code
        )
        with self._session() as session:
            return {code: used for code, used in session.execute(query.order_by("number")).tuples()}

    def join(
        self,
        key: str,
        nickname: str,
        invitation: str | None,
        draw: Callable[[Mapping[str, int]], Sequence[Showing]],
    ) -> None:
        """Add a rater, or do nothing if the key has joined already.

        Args:
            key: identifies the rater.
            nickname: at most 40 characters.
            invitation: a code; None if none is needed.
            draw: maps how often each version has been given to the rater's showings.

        Raises:
            InvitationError: no such code, it was used, or too many raters have joined.
        """
        now = datetime.now(UTC)
        with self._session(write=True) as session:
            # One rater joins at a time, so that two don't get the same least shown versions.
            session.scalar(select(_Study.id).with_for_update())
            if session.scalar(select(_Rater.id).where(_Rater.key == key)):
                return
            if (session.scalar(select(func.count()).select_from(_Rater)) or 0) >= MAX_RATERS:
                raise InvitationError("This study is full.")
            if invitation is not None:
                if session.get(_Invitation, invitation) is None:
                    raise InvitationError("There is no such invitation code.")
                if session.scalar(select(_Rater.id).where(_Rater.invitation == invitation)):
                    raise InvitationError(
                        "This invitation has been used. To continue your ratings, open your "
                        "personal link."
                    )
            rater = _Rater(key=key, nickname=nickname, invitation=invitation, joined=now, seen=now)
            session.add(rater)
            session.flush()
            rows = [
                {
                    "token": secrets.token_hex(16),
                    "rater_id": rater.id,
                    "position": position,
                    "version": showing.version.id,
                    "repeat": showing.repeat,
                    "attempt": 0,
                }
                for position, showing in enumerate(draw(_times_given(session, now)))
            ]
            session.execute(insert(_Trial), rows)

    def rater(self, key: str) -> Rater | None:
        """Return the rater with this key; None if there is none."""
        with self._session() as session:
            row = session.scalar(select(_Rater).where(_Rater.key == key))
            return Rater(row.id, row.nickname, row.calibrated) if row else None

    def calibrate(self, rater: int, page: int) -> None:
        """Record that calibration page `page`, from 0, was seen; repeating it has no effect."""
        with self._session(write=True) as session:
            session.execute(
                update(_Rater)
                .where(_Rater.id == rater, _Rater.calibrated == page)
                .values(calibrated=page + 1, seen=datetime.now(UTC))
            )

    def trial(self, rater: int) -> Trial | None:
        """Return the rater's first trial without a rating; None if all are rated."""
        with self._session() as session:
            position = _current(session, rater)
            rows = session.scalars(
                select(_Trial)
                .where(
                    _Trial.rater_id == rater, _Trial.position.between(position - 1, position + 1)
                )
                .order_by(_Trial.position)
            ).all()
            near = {row.position: row for row in rows}
            row = near.get(position)
            if row is None:
                return None
            before, after = near.get(position - 1), near.get(position + 1)
            return Trial(
                row.token,
                row.attempt,
                position,
                _total(session, rater),
                row.version,
                after.token if after else None,
                (before.token, before.attempt) if before and not row.attempt else None,
            )

    def last(self, rater: int) -> tuple[str, int] | None:
        """Return token and attempt of the rater's last trial if all are rated, else None."""
        with self._session() as session:
            position = _current(session, rater)
            row = session.execute(
                select(_Trial.token, _Trial.attempt).where(
                    _Trial.rater_id == rater, _Trial.position == position - 1
                )
            ).first()
            return (row.token, row.attempt) if row and position == _total(session, rater) else None

    def rate(
        self,
        rater: int,
        token: str,
        attempt: int,
        score: int,
        milliseconds: int | None = None,
        pixel_ratio: float | None = None,
    ) -> bool:
        """Store a rating; it is on disk when this returns.

        Only a rating of the rater's current trial and attempt is accepted, so a double click, a
        second tab or a repeated request has no effect.

        Returns:
            Whether the rating was accepted.
        """
        with self._session(write=True) as session:
            position = _current(session, rater, lock=True)
            now = datetime.now(UTC)
            taken = session.execute(
                update(_Trial)
                .where(
                    _Trial.rater_id == rater,
                    _Trial.position == position,
                    _Trial.token == token,
                    _Trial.attempt == attempt,
                    _Trial.score.is_(None),
                )
                .values(score=score, rated=now, milliseconds=milliseconds, pixel_ratio=pixel_ratio)
                .returning(_Trial.id)
            ).first()
            if taken is not None:
                session.execute(update(_Rater).where(_Rater.id == rater).values(seen=now))
            return taken is not None

    def undo(self, rater: int, token: str, attempt: int) -> bool:
        """Undo the rating before the current trial, once; repeating it has no effect."""
        with self._session(write=True) as session:
            position = _current(session, rater, lock=True)
            present = select(_Trial.attempt).where(
                _Trial.rater_id == rater, _Trial.position == position
            )
            if session.scalar(present):  # the current trial was undone: only one step back
                return False
            undone = session.execute(
                update(_Trial)
                .where(
                    _Trial.rater_id == rater,
                    _Trial.position == position - 1,
                    _Trial.token == token,
                    _Trial.attempt == attempt,
                )
                .values(
                    attempt=attempt + 1,
                    score=None,
                    rated=None,
                    milliseconds=None,
                    pixel_ratio=None,
                )
                .returning(_Trial.id)
            ).first()
            return undone is not None

    def version(self, rater: int, token: str) -> str | None:
        """Return the version of a trial; None unless the rater may see it now."""
        with self._session() as session:
            position = _current(session, rater)
            return session.scalar(
                select(_Trial.version).where(
                    _Trial.rater_id == rater,
                    _Trial.token == token,
                    _Trial.position.between(position - 1, position + 1),
                )
            )

    def progress(self) -> list[Progress]:
        """Return each rater's progress, in order of joining."""
        query = (
            select(_Rater, func.count(_Trial.score), func.count(_Trial.id))
            .outerjoin(_Trial)
            .group_by(_Rater.id)
            .order_by(_Rater.id)
        )
        with self._session() as session:
            return [
                Progress(
                    row.id,
                    row.nickname,
                    row.invitation,
                    row.calibrated,
                    rated,
                    total,
                    _utc(row.joined),
                    _utc(row.seen),
                )
                for row, rated, total in session.execute(query)
            ]

    def ratings(self) -> list[RatingRow]:
        """Return all ratings, ordered by rater and position."""
        query = (
            select(_Trial)
            .where(_Trial.score.is_not(None))
            .order_by(_Trial.rater_id, _Trial.position)
        )
        with self._session() as session:
            return [
                RatingRow(
                    row.rater_id,
                    row.position,
                    row.version,
                    row.repeat,
                    row.attempt,
                    row.score,
                    _utc(row.rated),
                    row.milliseconds,
                    row.pixel_ratio,
                )
                for row in session.scalars(query)
                if row.score is not None and row.rated is not None
            ]

    @contextmanager
    def _session(self, write: bool = False) -> Iterator[Session]:
        if not write:
            with Session(self._engine) as session, session.begin():
                yield session
            return
        engine = self._engine.execution_options(**_WRITE)
        with self._turn, Session(engine) as session, session.begin():
            yield session

    @contextmanager
    def _explain_errors(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            raise UserError(
                f"{self._name()}: can't be used: {first_line(error.orig or error)}"
            ) from None

    def _name(self) -> str:
        return self._engine.url.render_as_string(hide_password=True)


def parse_url(text: str | URL) -> URL:
    """Parse a database URL.

    Raises:
        UserError: not a URL of PostgreSQL or SQLite.
    """
    try:
        url = make_url(text)
    except ArgumentError:
        raise UserError(
            "the database URL is invalid; it should be postgresql://USER:PASSWORD@HOST/DATABASE"
        ) from None
    kind = url.get_backend_name()
    if kind not in ("postgresql", "sqlite"):
        raise UserError(f"{kind}: unsupported database; use postgresql://USER@HOST/DATABASE")
    return url.set(drivername="postgresql+psycopg") if kind == "postgresql" else url


def _open_engine(text: str | URL) -> Engine:
    url = parse_url(text)
    if url.get_backend_name() == "postgresql":
        # One connection per thread of the web app.
        return create_engine(url, pool_pre_ping=True, pool_size=10, max_overflow=40)
    engine = create_engine(url, connect_args={"timeout": 30}, pool_size=10, max_overflow=40)

    @event.listens_for(engine, "connect")
    def prepare(connection, _) -> None:
        connection.isolation_level = None  # transactions begin below, not in the driver
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")  # commits survive a power cut
        connection.execute("PRAGMA foreign_keys = ON")

    @event.listens_for(engine, "begin")
    def begin(connection) -> None:
        connection.exec_driver_sql(connection.get_execution_options().get("sqlite_begin", "BEGIN"))

    return engine


def _current(session: Session, rater: int, lock: bool = False) -> int:
    """Return the position of the rater's first trial without a rating, or the number of trials."""
    if lock:  # against concurrent ratings of this rater
        session.scalar(select(_Rater.id).where(_Rater.id == rater).with_for_update())
    position = session.scalar(
        select(func.min(_Trial.position)).where(_Trial.rater_id == rater, _Trial.score.is_(None))
    )
    return _total(session, rater) if position is None else position


def _total(session: Session, rater: int) -> int:
    return (
        session.scalar(select(func.count()).select_from(_Trial).where(_Trial.rater_id == rater))
        or 0
    )


def _times_given(session: Session, now: datetime) -> dict[str, int]:
    """Count how often each version was rated, or waits for a rater who may come back."""
    query = (
        select(_Trial.version, func.count())
        .join(_Rater)
        .where(~_Trial.repeat, _Trial.score.is_not(None) | (_Rater.seen > now - _ABSENT))
        .group_by(_Trial.version)
    )
    return {version: count for version, count in session.execute(query).tuples()}


def _utc(time: datetime) -> datetime:
    return time if time.tzinfo else time.replace(tzinfo=UTC)  # SQLite drops the zone
