"""The file that a backup is: a tar, compressed, whose last entry says what the others are.

Entries are `tables/NAME.jsonl`, and files below `files/`, `jobs/` and `models/`. The last one, `contents.json`, has the SHA-256 of
each; what is not named there does not count. A file that was cut has no last entry.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any, Protocol, cast

from pydantic import BaseModel, ConfigDict, ValidationError

from fettle.errors import ConfigError, DataError, ResourceError, disk_errors_explained
from fettle.store.database import now
from fettle.version import fettle_version

FORMAT = 1
TABLES, FILES, JOBS, MODELS = "tables", "files", "jobs", "models"
_CONTENTS = "contents.json"
_ROOTS = (TABLES, FILES, JOBS, MODELS)
_PIECE = 1 << 20
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_GZIP_LEVEL = 1  # weights do not get smaller by trying harder
_MOST_CONTENTS_BYTES = 256 << 20


class Entry(BaseModel):
    """A file in the archive."""

    model_config = ConfigDict(frozen=True)

    num_bytes: int
    sha256: str


class Contents(BaseModel):
    """What the archive holds."""

    model_config = ConfigDict(frozen=True)

    format: int = FORMAT
    fettle: str
    """Version of Fettle that wrote it."""
    tables_version: str
    """Of the tables, as the migrations count them."""
    created_at: int
    entries: dict[str, Entry]


class ArchiveWriter:
    """Adds files to an archive that is being written.

    Args:
        tar: What they go into.
        on_bytes: Told how many bytes were read.
    """

    def __init__(self, tar: tarfile.TarFile, on_bytes: Callable[[int], None]) -> None:
        self._tar, self._on_bytes = tar, on_bytes
        self._entries: dict[str, Entry] = {}

    def add(self, name: str, path: Path) -> None:
        """Add a file as it is now; what is appended meanwhile is left out.

        Raises:
            FileNotFoundError: It is gone.
            ResourceError: It became shorter while it was read.
        """
        with path.open("rb") as file:
            member = tarfile.TarInfo(name)
            status = os.fstat(file.fileno())
            member.size, member.mtime = status.st_size, int(status.st_mtime)
            source = _Hashed(file, self._on_bytes)
            try:
                self._tar.addfile(member, cast("IO[bytes]", source))
            except OSError as error:
                if error.errno is not None:
                    raise
                remedy = "make the backup again"  # tarfile had less to read than the file's size promised
                raise ResourceError(
                    "a file became shorter while it was read", where=str(path), remedy=remedy
                ) from error
        self._entries[name] = Entry(num_bytes=member.size, sha256=source.sha256)

    def forget(self, folder: str) -> None:
        """Let what was added below a folder not count."""
        self._entries = {name: entry for name, entry in self._entries.items() if not name.startswith(f"{folder}/")}

    def finish(self, tables_version: str) -> None:
        """Add the last entry."""
        contents = Contents(
            fettle=fettle_version(), tables_version=tables_version, created_at=now(), entries=self._entries
        )
        data = contents.model_dump_json().encode()
        member = tarfile.TarInfo(_CONTENTS)
        member.size, member.mtime = len(data), contents.created_at
        self._tar.addfile(member, io.BytesIO(data))


@contextmanager
def new_archive(path: Path, on_bytes: Callable[[int], None]) -> Iterator[ArchiveWriter]:
    """An archive that appears at `path` once it is whole, readable for its owner alone.

    Raises:
        ConfigError: The name says no compression that we have, or there is a file already.
        DiskFullError: No space is left; nothing of it stays.
    """
    compress = _compressor(path)
    if path.exists():
        raise ConfigError("there is a file already", where=str(path), remedy="choose another name, or remove it")
    with disk_errors_explained(path, remedy="name a file in a folder that is there, and that you may write"):
        descriptor, temporary = tempfile.mkstemp(dir=path.absolute().parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "wb") as file:
                with compress(file) as stream, tarfile.open(fileobj=stream, mode="w|", bufsize=_PIECE) as tar:
                    yield ArchiveWriter(tar, on_bytes)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).rename(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise


def unpack(path: Path, folder: Path, on_bytes: Callable[[int], None]) -> Contents:
    """Write what an archive holds below `folder`, every file proven by its hash.

    Raises:
        ConfigError: There is no such file, or zstandard is not installed.
        DataError: It is no backup, damaged, or holds what no backup does.
        DiskFullError: No space is left.
    """
    found: dict[str, Entry] = {}
    data = None
    try:
        with _decompressed(path, on_bytes) as stream, tarfile.open(fileobj=stream, mode="r|", bufsize=_PIECE) as tar:
            for member in tar:
                if member.name == _CONTENTS and member.size <= _MOST_CONTENTS_BYTES:
                    data = _reader(tar, member).read()
                    continue
                target = folder / _safe(member, path)
                if member.name in found:
                    raise _damaged(path, f"{member.name} is in it twice")
                with disk_errors_explained(target):
                    found[member.name] = _write(_reader(tar, member), target)
        contents = Contents.model_validate_json(data or b"")
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, ValidationError, *_zstd_errors()) as error:
        raise _damaged(path, "it is no whole backup of Fettle") from error
    if contents.format != FORMAT:
        raise DataError(
            f"the backup has format {contents.format}, and {FORMAT} is known here",
            where=str(path),
            remedy=f"restore it with Fettle {contents.fettle}",
        )
    for name, entry in contents.entries.items():
        if found.get(name) != entry:
            raise _damaged(path, f"{name} is not what was written")
    for name in found.keys() - contents.entries.keys():
        (folder / name).unlink()
    return contents


class _Hashed:
    """A file that is hashed as it is read."""

    def __init__(self, file: IO[bytes], on_bytes: Callable[[int], None]) -> None:
        self._file, self._on_bytes, self._hash = file, on_bytes, hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        """The next bytes."""
        data = self._file.read(size)
        self._hash.update(data)
        self._on_bytes(len(data))
        return data

    @property
    def sha256(self) -> str:
        """Of what was read."""
        return self._hash.hexdigest()


def _safe(member: tarfile.TarInfo, archive: Path) -> PurePosixPath:
    """Where a member may be written.

    Raises:
        DataError: It is no plain file, or would lie outside.
    """
    path = PurePosixPath(member.name)
    is_inside = not path.is_absolute() and ".." not in path.parts and "\0" not in member.name
    if not member.isreg() or not is_inside or len(path.parts) < 2 or path.parts[0] not in _ROOTS:
        raise DataError(
            f"the archive holds {member.name[:200]!r}, which no backup does; nothing was restored",
            where=str(archive),
            remedy="do not use this file: somebody has changed it",
        )
    return path


def _write(source: IO[bytes], target: Path) -> Entry:
    target.parent.mkdir(parents=True, exist_ok=True)
    hashing, num_bytes = hashlib.sha256(), 0
    with target.open("xb") as file:
        while piece := source.read(_PIECE):
            file.write(piece)
            hashing.update(piece)
            num_bytes += len(piece)
        file.flush()
        os.fsync(file.fileno())
    return Entry(num_bytes=num_bytes, sha256=hashing.hexdigest())


def _reader(tar: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    reader = tar.extractfile(member)
    if reader is None:
        raise tarfile.ReadError("no plain file")
    return reader


def _damaged(path: Path, problem: str) -> DataError:
    return DataError(f"{problem}; nothing was restored", where=str(path), remedy="use another backup, or copy it again")


class _Compress(Protocol):
    def __call__(self, file: IO[bytes]) -> Any: ...


def _compressor(path: Path) -> _Compress:
    if path.suffix in (".gz", ".tgz"):
        return lambda file: gzip.GzipFile(fileobj=file, mode="wb", compresslevel=_GZIP_LEVEL)
    if path.suffix == ".zst":
        zstandard = _zstandard(path)
        return lambda file: zstandard.ZstdCompressor(threads=-1).stream_writer(file, closefd=False)
    raise ConfigError(
        "the name of a backup ends in .tar.gz or .tar.zst",
        where=str(path),
        remedy="choose such a name; .tar.zst is the faster one",
    )


@contextmanager
def _decompressed(path: Path, on_bytes: Callable[[int], None]) -> Iterator[IO[bytes]]:
    try:
        file = path.open("rb")
    except OSError as error:
        raise ConfigError(
            f"cannot be read ({error.strerror})", where=str(path), remedy="name a file that `fettle backup` wrote"
        ) from error
    with file:
        start = file.read(4)
        file.seek(0)
        source = cast("IO[bytes]", _Hashed(file, on_bytes))
        if start == _ZSTD:
            yield _zstandard(path).ZstdDecompressor().stream_reader(source)
        elif start.startswith(_GZIP):
            yield cast("IO[bytes]", gzip.GzipFile(fileobj=source, mode="rb"))
        else:
            raise _damaged(path, "it is no backup of Fettle")


def _zstandard(path: Path) -> Any:
    try:
        import zstandard
    except ModuleNotFoundError as error:
        raise ConfigError(
            "zstd wants the package zstandard, which is not installed",
            where=str(path),
            remedy="pip install 'fettle-llm[zstd]', or choose a name that ends in .tar.gz",
        ) from error
    return zstandard


def _zstd_errors() -> tuple[type[Exception], ...]:
    try:
        import zstandard
    except ModuleNotFoundError:
        return ()
    return (zstandard.ZstdError,)
