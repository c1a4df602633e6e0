"""The index that a command names."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from fettle.errors import ConfigError

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from fettle.store.indexes import StoredIndex


def named_index(connection: Connection, project: str, name: str) -> StoredIndex:
    """A project's index of this name or id.

    Raises:
        ConfigError: There is none, or several have the name; names near it are given.
    """
    from fettle.store.indexes import find_named_index, list_all_indexes
    from fettle.store.keys import list_projects

    ids = [one.id for one in list_projects(connection).values() if one.name == project]
    found = find_named_index(connection, ids[0], name) if ids else None
    if found is not None:
        return found
    names = [one.name for one in list_all_indexes(connection) if one.project_id in ids and one.name is not None]
    near = difflib.get_close_matches(name, names, n=1)
    raise ConfigError(
        f"no index of the project {project!r} is called {name!r}" + (f"; did you mean {near[0]!r}" if near else ""),
        remedy="`fettle indexes list` shows all indexes, and `fettle index DOCUMENTS --name NAME` makes one",
    )
