"""The store that the environment names, for commands that work on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fettle.settings import get_settings

if TYPE_CHECKING:
    from fettle.store.database import Store


def open_store() -> Store:
    """Open it, and bring it to the newest form.

    Raises:
        ConfigError: The URL cannot be used.
        ResourceError: The database does not answer.
    """
    from fettle.store.database import Store

    settings = get_settings()
    url = settings.database_url
    return Store(settings.home, None if url is None else url.get_secret_value())
