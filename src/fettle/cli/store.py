"""The store that the environment names, for commands that work on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fettle.store.database import Store


def open_store() -> Store:
    """Open it, and bring it to the newest form.

    Raises:
        ConfigError: The URL cannot be used.
        ResourceError: The database does not answer.
    """
    from fettle.store import opening

    return opening.open_store()


def user_name() -> str:
    """Who runs the command, as the operating system calls them."""
    import getpass

    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a user without a name, as in some containers
        return "unknown"
