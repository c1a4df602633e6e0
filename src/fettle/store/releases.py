"""Releases by name and number, and what became of them: rows are added, and never changed.

Which release is in force follows from the events alone. What a release says is JSON here, to which `fettle.releases.records` gives
its meaning.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Text, cast, func, insert, select

from fettle.errors import ConfigError, ModelError
from fettle.store.database import now
from fettle.store.release_tables import release_events, releases
from fettle.store.tables import projects


class NoSuchReleaseError(ModelError):
    """There is no such release, or it is another project's."""


class ReleaseEventKind(StrEnum):
    """What happens to a release."""

    CREATED = "created"
    PROMOTED = "promoted"
    """It answers to its name from now on; every gate let it through."""
    FORCED = "forced"
    """It answers to its name from now on, against its gates."""
    ROLLED_BACK = "rolled back"
    """An earlier one answers to the name again."""
    CHALLENGED = "challenged"
    """It answers a share of the requests beside the one in force, or instead of it."""
    CHALLENGE_ENDED = "challenge ended"
    """It does so no longer."""
    NOT_PROMOTED = "not promoted"
    """It has won a challenge that was to put it in force, and is not what was signed."""

    @property
    def puts_in_force(self) -> bool:
        """Whether the release answers to its name from then on."""
        return self in _PUT_IN_FORCE


_PUT_IN_FORCE = (ReleaseEventKind.PROMOTED, ReleaseEventKind.FORCED, ReleaseEventKind.ROLLED_BACK)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRelease:
    """A release as it is kept."""

    project_id: str
    name: str
    number: int
    """From 1 for each name of a project."""
    created_at: int
    contender: Mapping[str, Any]
    evidence: Mapping[str, Any]
    content_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RawRelease:
    """The same, as the database holds it letter by letter: two that are equal say the same."""

    project_id: str
    name: str
    number: int
    created_at: int
    contender: str
    """JSON, as is the next one."""
    evidence: str
    content_sha256: str

    def decoded(self) -> StoredRelease:
        """With its JSON read.

        Raises:
            ValueError: Something is no JSON.
        """
        return StoredRelease(
            project_id=self.project_id,
            name=self.name,
            number=self.number,
            created_at=self.created_at,
            contender=json.loads(self.contender),
            evidence=json.loads(self.evidence),
            content_sha256=self.content_sha256,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseEvent:
    """Something that happened to a release."""

    name: str
    number: int
    kind: ReleaseEventKind
    created_at: int
    who: str
    """As the operating system calls them."""
    reason: str | None
    content_sha256: str
    """Of the release as it was then."""


def hold_releases(connection: Connection, project_id: str) -> None:
    """Let nobody else make, promote or roll back releases of a project before the transaction is over (SQLite's take turns)."""
    wanted = select(projects.c.id).where(projects.c.id == project_id)
    connection.execute(wanted.with_for_update(key_share=True))  # rows that point to the project are written meanwhile


def next_number(connection: Connection, project_id: str, name: str) -> int:
    """The number of the next release of a name, to be called while its releases are held (`hold_releases`)."""
    of_name = (releases.c.project_id == project_id, releases.c.name == name)
    return (connection.execute(select(func.max(releases.c.release_number)).where(*of_name)).scalar() or 0) + 1


def add_release(connection: Connection, release: StoredRelease, *, who: str) -> None:
    """Have a new release; it is not in force."""
    connection.execute(
        insert(releases).values(
            project_id=release.project_id,
            name=release.name,
            release_number=release.number,
            created_at=release.created_at,
            contender=dict(release.contender),
            evidence=dict(release.evidence),
            content_sha256=release.content_sha256,
        )
    )
    add_release_event(connection, release, ReleaseEventKind.CREATED, who=who)


def add_release_event(
    connection: Connection, release: StoredRelease, kind: ReleaseEventKind, *, who: str, reason: str | None = None
) -> None:
    """Write down that something happened to a release."""
    connection.execute(
        insert(release_events).values(
            project_id=release.project_id,
            name=release.name,
            release_number=release.number,
            kind=kind.value,
            created_at=now(),
            who=who,
            reason=reason,
            content_sha256=release.content_sha256,
        )
    )


def find_release(connection: Connection, project_id: str, name: str, number: int) -> StoredRelease:
    """One release.

    Raises:
        NoSuchReleaseError: There is none.
    """
    row = connection.execute(select(releases).where(*_is(project_id, name, number))).first()
    if row is None:
        raise _no_such(name, number)
    return _record(row)


def find_raw_release(connection: Connection, project_id: str, name: str, number: int) -> RawRelease:
    """One release, its JSON unread.

    Raises:
        NoSuchReleaseError: There is none.
    """
    contender, evidence = (cast(column, Text) for column in (releases.c.contender, releases.c.evidence))
    columns = (
        releases.c.created_at,
        releases.c.content_sha256,
        contender.label("contender"),
        evidence.label("evidence"),
    )
    row = connection.execute(select(*columns).where(*_is(project_id, name, number))).first()
    if row is None:
        raise _no_such(name, number)
    return RawRelease(
        project_id=project_id,
        name=name,
        number=number,
        created_at=row.created_at,
        contender=row.contender,
        evidence=row.evidence,
        content_sha256=row.content_sha256,
    )


def list_releases(connection: Connection, project_id: str, name: str | None = None) -> tuple[StoredRelease, ...]:
    """A project's releases, by name and number; None: of all names."""
    wanted = select(releases).where(releases.c.project_id == project_id)
    if name is not None:
        wanted = wanted.where(releases.c.name == name)
    rows = connection.execute(wanted.order_by(releases.c.name, releases.c.release_number))
    return tuple(map(_record, rows))


def list_release_names(connection: Connection, project_id: str | None = None) -> tuple[tuple[str, str], ...]:
    """Projects with the names that they have releases of; None: all projects."""
    wanted = select(releases.c.project_id, releases.c.name).distinct()
    if project_id is not None:
        wanted = wanted.where(releases.c.project_id == project_id)
    rows = connection.execute(wanted.order_by(releases.c.project_id, releases.c.name))
    return tuple((row.project_id, row.name) for row in rows)


def release_history(connection: Connection, project_id: str, name: str) -> tuple[ReleaseEvent, ...]:
    """All that happened to the releases of a name, the first event first."""
    where = (release_events.c.project_id == project_id, release_events.c.name == name)
    rows = connection.execute(select(release_events).where(*where).order_by(release_events.c.number))
    return tuple(
        ReleaseEvent(
            name=row.name,
            number=row.release_number,
            kind=ReleaseEventKind(row.kind),
            created_at=row.created_at,
            who=row.who,
            reason=row.reason,
            content_sha256=row.content_sha256,
        )
        for row in rows
    )


def has_releases(connection: Connection, project_id: str, name: str) -> bool:
    """Whether a name is one of releases."""
    where = (releases.c.project_id == project_id, releases.c.name == name)
    return connection.execute(select(releases.c.number).where(*where).limit(1)).first() is not None


def number_in_force(connection: Connection, project_id: str, name: str) -> int | None:
    """The release that answers to a name; None: none was promoted."""
    where = (
        release_events.c.project_id == project_id,
        release_events.c.name == name,
        release_events.c.kind.in_([kind.value for kind in _PUT_IN_FORCE]),
    )
    last = select(release_events.c.release_number).where(*where).order_by(release_events.c.number.desc()).limit(1)
    return connection.execute(last).scalar()


def releases_in_force(connection: Connection, project_id: str) -> tuple[StoredRelease, ...]:
    """The release in force of each name that has one, by name."""
    names = select(releases.c.name).where(releases.c.project_id == project_id).distinct().order_by(releases.c.name)
    found = []
    for name in connection.execute(names).scalars().all():
        number = number_in_force(connection, project_id, name)
        if number is not None:
            found.append(find_release(connection, project_id, name, number))
    return tuple(found)


def numbers_in_force(events: Sequence[ReleaseEvent]) -> tuple[int, ...]:
    """The releases that were in force one after the other, without those that were rolled back; the last one is in force.

    >>> numbers_in_force(())
    ()
    """
    line: list[int] = []
    for event in events:
        match event.kind:
            case ReleaseEventKind.PROMOTED | ReleaseEventKind.FORCED:
                line = [*line, event.number] if line[-1:] != [event.number] else line
            case ReleaseEventKind.ROLLED_BACK:
                while line and line[-1] != event.number:
                    line.pop()
                line = line or [event.number]
            case _:
                pass
    return tuple(line)


def number_before(events: Sequence[ReleaseEvent], name: str) -> int:
    """What a name goes back to.

    Raises:
        ConfigError: No release was in force before.
    """
    line = numbers_in_force(events)
    if len(line) < 2:
        raise ConfigError(
            f"no release of {name!r} was in force before" if line else f"no release of {name!r} is in force",
            remedy=f"`fettle release history {name}` says what was; --to names another one",
        )
    return line[-2]


def _is(project_id: str, name: str, number: int) -> tuple[ColumnElement[bool], ...]:
    return (releases.c.project_id == project_id, releases.c.name == name, releases.c.release_number == number)


def _no_such(name: str, number: int) -> NoSuchReleaseError:
    return NoSuchReleaseError(
        f"there is no release {name}@{number}", remedy="`fettle release list` shows those that there are"
    )


def _record(row: Row[Any]) -> StoredRelease:
    return StoredRelease(
        project_id=row.project_id,
        name=row.name,
        number=row.release_number,
        created_at=row.created_at,
        contender=row.contender,
        evidence=row.evidence,
        content_sha256=row.content_sha256,
    )
