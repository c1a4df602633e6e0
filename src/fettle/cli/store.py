"""The store that the environment names, for commands that work on it."""

from __future__ import annotations

import os
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
    try:
        import pwd  # not `getpass` first: it takes a name from the environment, where anybody writes anything

        return pwd.getpwuid(os.getuid()).pw_name
    except (ImportError, KeyError):  # another system than Unix, or a user without a name, as in some containers
        return _named_by_environment()


def _named_by_environment() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"
