"""Projects and their keys. A key is shown once, when it is made; what is kept is its hash.

Keys are 190 random bits, so one round of SHA-256 is enough: there is nothing to guess, and no slow hash is needed as for passwords.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass

from sqlalchemy import Connection, insert, select, update

from fettle.errors import ConfigError
from fettle.store.database import Store, now
from fettle.store.ids import new_id
from fettle.store.tables import keys, projects

_PREFIX = "sk-fettle-"
_NUM_BYTES = 32
_HINT_LENGTH = 4
DEFAULT_PROJECT = "default"


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """Whose files, jobs and models are whose."""

    id: str
    name: str
    created_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """What is known of a key, without the key."""

    id: str
    project_id: str
    project: str
    """The project's name."""
    name: str
    hint: str
    """The last characters of the key."""
    created_at: int
    revoked_at: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """Who asks: everything is done in the name of one project."""

    project_id: str
    key_id: str


def create_key(store: Store, name: str, project: str = DEFAULT_PROJECT) -> tuple[str, Key]:
    """A new key, which is not kept, and what is kept of it. A project of that name is made where there is none.

    Raises:
        ConfigError: A name is empty.
    """
    if not name.strip():
        raise ConfigError("a key needs a name", where="NAME", remedy="say what it is for, so that you know it again")
    if not project.strip():
        raise ConfigError(
            "a project needs a name", where="--project", remedy="name it, or leave it out for the default"
        )
    secret = _PREFIX + secrets.token_urlsafe(_NUM_BYTES)
    with store.writing() as connection:
        owner = ensure_project(connection, project)
        row = {
            "id": new_id("key_"),
            "project_id": owner.id,
            "name": name,
            "sha256": _hashed(secret),
            "hint": secret[-_HINT_LENGTH:],
            "created_at": now(),
        }
        connection.execute(insert(keys).values(row))
    del row["sha256"]
    return secret, Key(**row, project=owner.name, revoked_at=None)


def list_keys(store: Store) -> tuple[Key, ...]:
    """All keys, the oldest first, revoked ones included."""
    wanted = select(keys, projects.c.name.label("project")).join(projects).order_by(keys.c.number)
    with store.reading() as connection:
        return tuple(
            Key(
                id=row.id,
                project_id=row.project_id,
                project=row.project,
                name=row.name,
                hint=row.hint,
                created_at=row.created_at,
                revoked_at=row.revoked_at,
            )
            for row in connection.execute(wanted)
        )


def revoke_key(store: Store, key_id: str) -> None:
    """Let a key open nothing any more, from now on.

    Raises:
        ConfigError: There is no such key, or it was revoked before.
    """
    with store.writing() as connection:
        found = connection.execute(
            update(keys).where(keys.c.id == key_id, keys.c.revoked_at.is_(None)).values(revoked_at=now())
        )
    if not found.rowcount:
        raise ConfigError(f"there is no key {key_id!r} in use", remedy="`fettle keys list` shows the ids")


def owner_of(store: Store, secret: str) -> Owner | None:
    """Whose key it is; None: nobody's, or it was revoked."""
    wanted = select(keys.c.id, keys.c.project_id).where(keys.c.sha256 == _hashed(secret), keys.c.revoked_at.is_(None))
    with store.reading() as connection:
        row = connection.execute(wanted).first()
    return None if row is None else Owner(project_id=row.project_id, key_id=row.id)


def list_projects(connection: Connection) -> dict[str, Project]:
    """All projects, by id."""
    return {row.id: Project(**row._mapping) for row in connection.execute(select(projects))}


def has_keys(store: Store) -> bool:
    """Whether a key was ever made."""
    with store.reading() as connection:
        return connection.execute(select(keys.c.id).limit(1)).first() is not None


def ensure_project(connection: Connection, name: str) -> Project:
    """The project of that name, made where there is none."""
    row = connection.execute(select(projects).where(projects.c.name == name)).first()
    if row is None:
        made = Project(id=new_id("proj_"), name=name, created_at=now())
        connection.execute(insert(projects).values(id=made.id, name=made.name, created_at=made.created_at))
        return made
    return Project(id=row.id, name=row.name, created_at=row.created_at)


def _hashed(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
