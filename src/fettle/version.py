"""Which Fettle this is."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

DISTRIBUTION = "fettle-llm"


def fettle_version() -> str:
    """The version of the installed package, or `development` in a bare checkout."""
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return "development"
