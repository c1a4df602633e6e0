"""Files as they lie on the disk to plain bytes: gzip, bzip2, xz, Zstandard and ZIP are undone within a bound.

The kind is told by the first bytes, never by the name. Other archives, encrypted ones and files that hold no data at all (pictures,
documents, programs) are refused by name.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

from fettle.errors import ConfigError, DataError

MAX_PLAIN_BYTES = 1 << 30
"""Largest file read, after decompression: with its parsed rows it takes several times as much memory."""
MAX_MEMBERS = 1000
"""Most files read from one ZIP archive."""
_CHUNK_BYTES = 1 << 20
DATA_SUFFIXES = frozenset({".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".tab", ".xlsx", ".xlsm", ".parquet", ".pq"})
"""What counts as data when a folder is read; a file named by itself is read whatever its name."""
_COMPRESSED_SUFFIXES = frozenset({".gz", ".bz2", ".xz", ".lzma", ".zst", ".zip"})

_REFUSED = {
    b"%PDF": "a PDF document",
    b"\x89PNG": "a picture",
    b"\xff\xd8\xff": "a picture",
    b"GIF8": "a picture",
    b"\x7fELF": "a program",
    b"MZ\x90": "a program",
    b"SQLite format 3": "an SQLite database",
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": "an old Office file (.xls, .doc), or one protected by a password",
    b"7z\xbc\xaf\x27\x1c": "a 7-Zip archive",
    b"Rar!\x1a\x07": "a RAR archive",
    b"ARROW1": "an Arrow or Feather file",
    b"GGUF": "a model",
}
_REFUSED_REMEDY = "save the table as .csv, .xlsx (without a password), .parquet or .jsonl and give that file"


class _Stream(Protocol):
    def read(self, size: int, /) -> bytes: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainFile:
    """The uncompressed bytes of one file."""

    name: str
    """As the user named it; a member of an archive with several is `archive.zip!member.csv`."""
    suffix: str
    """Lower case, of the name without the compression's own suffix, with its dot; "" when there is none."""
    data: bytes
    encoding: str | None = None
    """What the user says its text is in, by Python's name; None: told from the bytes."""
    passed_over: tuple[str, ...] = ()
    """Other members of its archive, whose names are not those of data files."""


def open_plain(path: Path, *, name: str | None = None, max_bytes: int = MAX_PLAIN_BYTES) -> Iterator[PlainFile]:
    """Yield the file's uncompressed content: one file, or each member of a ZIP archive.

    Args:
        path: A file that exists.
        name: What to call it in findings; None: `path` as it is.
        max_bytes: Bound on the uncompressed size of all of it.

    Raises:
        DataError: It is larger than the bound, damaged, encrypted, or of a kind that holds no rows.
        ConfigError: It cannot be opened, or needs a package that is not installed.
    """
    name = name or str(path)
    try:
        with path.open("rb") as file:
            data = _read_bounded(file, name=name, max_bytes=max_bytes)
    except OSError as error:
        raise ConfigError(f"cannot be read ({error.strerror})", where=name, remedy="check its permissions") from error
    suffix = plain_suffix(path.name)
    if zipfile.is_zipfile(io.BytesIO(data)) and data[:2] == b"PK":
        yield from _unzip(data, name=name, suffix=suffix, max_bytes=max_bytes)
    else:
        data = _decompress(data, name=name, max_bytes=max_bytes)
        _refuse_other_kinds(data, name)
        yield PlainFile(name=name, suffix=suffix, data=data)


def plain_suffix(file_name: str) -> str:
    """The suffix that tells the format, below any compression's own.

    >>> plain_suffix("rows.CSV.gz"), plain_suffix("rows.gz"), plain_suffix("a.jsonl")
    ('.csv', '', '.jsonl')
    """
    name = PurePosixPath(file_name.lower())
    while name.suffix in _COMPRESSED_SUFFIXES:
        name = name.with_suffix("")
    return name.suffix


def _decompress(data: bytes, *, name: str, max_bytes: int) -> bytes:
    openers: dict[bytes, Callable[[io.BytesIO], _Stream]] = {
        b"\x1f\x8b": lambda raw: gzip.GzipFile(fileobj=raw),
        b"BZh": bz2.BZ2File,
        b"\xfd7zXZ\x00": lzma.LZMAFile,
        b"\x28\xb5\x2f\xfd": _ZstdStream,
    }
    opener = next((opener for magic, opener in openers.items() if data.startswith(magic)), None)
    if opener is None:
        return data
    try:
        return _read_bounded(opener(io.BytesIO(data)), name=name, max_bytes=max_bytes)
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise DataError(
            f"the compressed file is damaged ({error})", where=name, remedy="copy or pack it again"
        ) from error


class _ZstdStream:
    """zstandard's reader, with its own error class turned into the one that `_decompress` knows."""

    def __init__(self, raw: io.BytesIO) -> None:
        try:
            import zstandard
        except ImportError as error:
            raise ConfigError(
                "reading Zstandard files (.zst) needs the package zstandard", remedy="pip install 'fettle-llm[zstd]'"
            ) from error
        self._stream = zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True)
        self._error = zstandard.ZstdError

    def read(self, size: int, /) -> bytes:
        try:
            return self._stream.read(size)
        except self._error as error:
            raise OSError(str(error)) from error


def _unzip(data: bytes, *, name: str, suffix: str, max_bytes: int) -> Iterator[PlainFile]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = archive.namelist()
            if any(member.startswith("xl/") for member in names):
                _check_unzipped_size(archive, name=name, max_bytes=max_bytes)
                yield PlainFile(name=name, suffix=".xlsx", data=data)
                return
            if "mimetype" in names or any(member.startswith(("word/", "ppt/")) for member in names):
                raise DataError("a document, not a table", where=name, remedy=_REFUSED_REMEDY)
            yield from _members(archive, name=name, suffix=suffix, max_bytes=max_bytes)
    except (
        zipfile.BadZipFile,
        NotImplementedError,
        EOFError,
        zlib.error,
        lzma.LZMAError,
        OSError,
        ValueError,
    ) as error:
        raise DataError(f"the ZIP archive is damaged ({error})", where=name, remedy="pack it again") from error


def _members(archive: zipfile.ZipFile, *, name: str, suffix: str, max_bytes: int) -> Iterator[PlainFile]:
    members = [
        member
        for member in archive.infolist()
        if not member.is_dir() and not any(part.startswith((".", "__MACOSX")) for part in member.filename.split("/"))
    ]
    if len(members) > MAX_MEMBERS:
        raise DataError(f"{len(members)} files in one archive", where=name, remedy=f"give at most {MAX_MEMBERS}")
    _check_unzipped_size(archive, name=name, max_bytes=max_bytes)
    others = [member for member in members if plain_suffix(member.filename) not in DATA_SUFFIXES]
    passed_over = () if len(others) == len(members) else tuple(sorted(member.filename for member in others))
    members = [member for member in members if member.filename not in passed_over]
    for member in sorted(members, key=lambda member: member.filename):
        if member.flag_bits & 1:
            raise DataError("the archive is protected by a password", where=name, remedy="unpack it and give the file")
        member_name = name if len(members) == 1 else f"{name}!{member.filename}"
        with archive.open(member) as file:
            packed = _read_bounded(file, name=member_name, max_bytes=max_bytes)
        content = _decompress(packed, name=member_name, max_bytes=max_bytes)
        _refuse_other_kinds(content, member_name)
        own_suffix = plain_suffix(member.filename) or suffix
        yield PlainFile(name=member_name, suffix=own_suffix, data=content, passed_over=passed_over)
        passed_over = ()


def _check_unzipped_size(archive: zipfile.ZipFile, *, name: str, max_bytes: int) -> None:
    if sum(member.file_size for member in archive.infolist()) > max_bytes:
        raise _too_large(name, max_bytes)


def _read_bounded(file: _Stream, *, name: str, max_bytes: int) -> bytes:
    chunks: list[bytes] = []
    num_bytes = 0
    while chunk := file.read(_CHUNK_BYTES):
        num_bytes += len(chunk)
        if num_bytes > max_bytes:
            raise _too_large(name, max_bytes)
        chunks.append(chunk)
    return b"".join(chunks)


def _too_large(name: str, max_bytes: int) -> DataError:
    return DataError(
        f"more than {max_bytes / (1 << 20):,.0f} MiB when unpacked",
        where=name,
        remedy="give a sample of its rows: a few thousand examples are enough for a study",
    )


def foreign_kind(data: bytes) -> str | None:
    """What a file is that is no text, by its first bytes; None where they say nothing.

    >>> foreign_kind(b"%PDF-1.7")
    'a PDF document'
    """
    if data[257:262] == b"ustar":
        return "a tar archive"
    return next((kind for magic, kind in _REFUSED.items() if data.startswith(magic)), None)


def _refuse_other_kinds(data: bytes, name: str) -> None:
    if kind := foreign_kind(data):
        raise DataError(f"expected rows of examples, and this is {kind}", where=name, remedy=_REFUSED_REMEDY)
