"""The store that the environment names."""

from __future__ import annotations

from fettle.settings import get_settings
from fettle.store.database import Store


def open_store() -> Store:
    """Open it, and bring it to the newest form.

    Raises:
        ConfigError: The URL cannot be used.
        ResourceError: The database does not answer.
    """
    settings = get_settings()
    url = settings.database_url
    return Store(settings.home, None if url is None else url.get_secret_value())
