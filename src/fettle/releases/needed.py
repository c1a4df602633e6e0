"""What releases answer with may not be deleted by accident: models, base models and indexes.

A release needs them while it is in force, challenges the one that is, or is the one that `fettle release rollback` returns to.
Those further back are history: each promotion lets go of what the last but one needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from sqlalchemy import Connection

from fettle.errors import ConfigError
from fettle.store.challenges import open_challenge
from fettle.store.releases import (
    StoredRelease,
    find_release,
    list_release_names,
    numbers_in_force,
    release_history,
)


class NeededByReleaseError(ConfigError):
    """Something would be deleted that a release answers with."""


def require_unneeded(
    connection: Connection,
    *,
    model: str | None = None,
    index_id: str | None = None,
    project_id: str | None = None,
    remedy: str,
) -> None:
    """Refuse to go on where a release needs something. What releases say is taken as it stands, changed rows included.

    Args:
        connection: To the store.
        model: Its id; None: no model is asked for.
        index_id: None: no index is.
        project_id: Whose releases are looked at; None: those of all projects.
        remedy: What else can be done, behind the promotion of another release.

    Raises:
        NeededByReleaseError: One does, and which.
    """
    needing = [
        f"{release.name}@{release.number}, which {why}"
        for release, why in _that_can_answer(connection, project_id)
        if model in set(_values(release.contender, "model")) or index_id in set(_values(release.contender, "index_id"))
    ]
    if needing:
        raise NeededByReleaseError(
            f"{model or index_id} is needed by the release {' and by '.join(needing)}",
            remedy=f"promote a release without it (twice, where it is the one to go back to), or end the challenge{remedy}",
        )


def _that_can_answer(connection: Connection, project_id: str | None) -> Iterator[tuple[StoredRelease, str]]:
    """Releases in force, those that the next rollback returns to, and those that challenge."""
    for owner, name in list_release_names(connection, project_id):
        line = numbers_in_force(release_history(connection, owner, name))
        roles = ("is in force", "`fettle release rollback` returns to")
        for number, role in zip(reversed(line), roles, strict=False):  # those further back have no role
            yield find_release(connection, owner, name, number), role
        running = open_challenge(connection, owner, name)
        if running is not None and running.challenger_number not in line[-2:]:
            yield find_release(connection, owner, name, running.challenger_number), "challenges the one in force"


def _values(said: object, key: str) -> Iterator[str]:
    """All texts of a key in JSON, however deep: contenders may hold others."""
    if isinstance(said, Mapping):
        for name, value in said.items():
            if name == key and isinstance(value, str):
                yield value
            yield from _values(value, key)
