"""Which backends there are. A new one adds its file here and a line to the registry."""

from __future__ import annotations

from importlib.util import find_spec

from fettle.errors import ConfigError
from fettle.retrieval.backend import Backend
from fettle.retrieval.index import PassageIndex
from fettle.settings import get_settings
from fettle.store.database import Store
from fettle.store.indexes import StoredIndex

BACKENDS = ("folder", "pgvector", "lancedb")


def backend_named(name: str) -> Backend:
    """The backend of this name.

    Raises:
        ConfigError: There is none, or it is not installed.
    """
    if name == "folder":
        from fettle.retrieval.indexes.files_backend import FilesBackend
        from fettle.retrieval.indexes.folder import FolderIndex, build_folder

        return FilesBackend(build_folder, FolderIndex)
    if name == "lancedb":
        from fettle.retrieval.indexes.files_backend import FilesBackend
        from fettle.retrieval.indexes.lancedb import LanceIndex, build_lance

        return FilesBackend(build_lance, LanceIndex)
    if name == "pgvector":
        try:
            from fettle.retrieval.indexes.pgvector_backend import PgVectorBackend
        except ModuleNotFoundError as error:
            raise ConfigError(
                f"indexes in PostgreSQL want the package {error.name}, which is not installed",
                remedy="pip install 'fettle-llm[postgres]'",
            ) from error
        return PgVectorBackend()
    raise ConfigError(
        f"the index is searched by {name!r}, which this version of Fettle does not know",
        remedy="install the version that made the index",
    )


def backend_of(store: Store, wanted: str | None = None) -> str:
    """Which backend a new index gets: the one that is wanted, else the store's own.

    Raises:
        ConfigError: There is no such backend, it is not installed, or it does not go with the store.
    """
    name = wanted or ("pgvector" if store.is_postgresql else get_settings().index_backend.value)
    if name not in BACKENDS:
        raise ConfigError(
            f"there is no backend {name!r}", where="--backend", remedy=f"give one of {', '.join(BACKENDS)}"
        )
    if name == "pgvector" and not store.is_postgresql:
        raise ConfigError(
            "pgvector is an extension of PostgreSQL, and the store is SQLite",
            where="--backend",
            remedy="name a PostgreSQL database with FETTLE_DATABASE_URL, or leave --backend out",
        )
    if name == "lancedb" and find_spec("lancedb") is None:
        raise ConfigError(
            "LanceDB is not installed", where="--backend lancedb", remedy="pip install 'fettle-llm[lancedb]'"
        )
    return name


def open_index(store: Store, index: StoredIndex) -> PassageIndex:
    """The present generation of an index, to be searched.

    Raises:
        ResourceError: What it is searched with is not there (`indexing.make_searchable` makes it), or damaged.
    """
    return backend_named(index.backend).open(store, index)
