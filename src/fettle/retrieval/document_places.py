"""Where documents lie: a file, a folder with all that is below it, or an fsspec URL such as `s3://bucket/folder`.

Nothing is opened here but lists of names. Hidden files are passed over, and links are followed only inside the folder.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any, cast

from fsspec import AbstractFileSystem
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from fettle.errors import ConfigError, DataError
from fettle.examples.notes import info, left_out
from fettle.records import Finding
from fettle.retrieval.document_reader import DocumentFile

_NOT_DOCUMENTS = (".", "~$", "__MACOSX")
"""Beginnings of the names of hidden files, Word's locks, and what macOS puts into archives."""
_PACKAGES = {
    "s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "abfs": "adlfs", "abfss": "adlfs", "az": "adlfs",
    "http": "aiohttp", "https": "aiohttp", "sftp": "paramiko", "ssh": "paramiko", "smb": "smbprotocol"
}  # fmt: skip


def files_at(place: str) -> Iterator[DocumentFile | Finding]:
    """Every visible file at a place, in the order of their paths, with findings about what cannot be looked at.

    Raises:
        DataError: There is nothing at the place.
        ConfigError: Its kind is unknown or needs a package that is not installed, or it cannot be looked at.
    """
    opened = _opened(place)
    root = _info(opened, place)
    if root["type"] == "directory":
        yield from _below(opened)
    else:
        yield _file(opened.files, root, name=_readable(opened.root.rstrip("/").rpartition("/")[2] or place))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Opened:
    """A file system and a path on it."""

    files: AbstractFileSystem
    root: str

    @property
    def is_local(self) -> bool:
        return isinstance(self.files, LocalFileSystem)

    def name(self, path: str) -> str:
        """What people call a path below the root."""
        return _readable(path[len(self.root) :].strip("/"))


def _opened(place: str) -> _Opened:
    local = Path(place).expanduser()
    try:
        if local.exists() or ("://" not in place and "::" not in place):
            return _Opened(files=LocalFileSystem(), root=str(local.resolve()))
        files, root = url_to_fs(place)
    except ImportError as error:
        protocol = place.partition("://")[0].rpartition("::")[2]
        package = _PACKAGES.get(protocol, "the package of this kind of place")
        raise ConfigError(
            f"opening {protocol}:// needs a package that is not installed ({error})",
            where=place,
            remedy=f"pip install {package}",
        ) from error
    except Exception as error:  # a file system's plug-in raises what it likes
        raise ConfigError(
            f"cannot be opened ({error})", where=place, remedy="give a folder, a file, or a URL that fsspec knows"
        ) from error
    return _Opened(files=files, root=root.rstrip("/") if root != "/" else "")


def _info(opened: _Opened, place: str) -> Mapping[str, Any]:
    try:
        return opened.files.info(opened.root)
    except FileNotFoundError as error:
        if opened.root in ("", "/"):  # an empty archive, or empty memory
            return {"name": opened.root, "type": "directory", "size": 0}
        raise DataError("no such file or folder", where=place, remedy="check the path") from error
    except Exception as error:  # as above
        raise _cannot_be_looked_at(place, error) from error


def _below(opened: _Opened) -> Iterator[DocumentFile | Finding]:
    waiting: list[Mapping[str, Any]] = [{"name": opened.root, "type": "directory"}]
    while waiting:
        entry = waiting.pop()
        name = opened.name(entry["name"])
        if entry["type"] == "directory":
            try:
                inside = _listed(opened.files, entry["name"])
            except Exception as error:  # as above
                if not name:
                    raise _cannot_be_looked_at(opened.root, error) from error
                note = left_out("unreadable-folder", f"the folder cannot be listed ({error})", "check its permissions")
                yield note.about(f"{name}/")
                continue
            if name and not inside:
                yield info("empty-folder", "the folder is empty", "fill it, or remove it").about(f"{name}/")
            waiting.extend(reversed(inside))
        elif finding := _of_link(opened, entry, name):
            yield finding
        elif entry["type"] == "file" or entry.get("islink"):
            yield _file(opened.files, entry, name=name)
        else:
            yield left_out("no-file", "neither a file nor a folder", "remove it, or ignore this").about(name)


def _listed(files: AbstractFileSystem, folder: str) -> list[Mapping[str, Any]]:
    entries = [entry for entry in files.ls(folder, detail=True) if entry["name"].rstrip("/") != folder.rstrip("/")]
    return sorted((entry for entry in entries if not _base_name(entry).startswith(_NOT_DOCUMENTS)), key=_base_name)


def _base_name(entry: Mapping[str, Any]) -> str:
    return entry["name"].rstrip("/").rpartition("/")[2]


def _of_link(opened: _Opened, entry: Mapping[str, Any], name: str) -> Finding | None:
    """Why a link is not followed; None for one to a file inside the folder, and for what is no link."""
    if not opened.is_local or not entry.get("islink"):
        return None
    try:
        target = Path(entry["name"]).resolve(strict=True)
    except (OSError, RuntimeError):
        return left_out("broken-link", "a link to nothing", "mend or remove it").about(name)
    if not target.is_relative_to(opened.root):
        text = "a link that leads out of the folder; it is not followed"
        return left_out("link-outside", text, "copy what it leads to, or index that by itself").about(name)
    if not target.is_file():
        text = "a link to a folder; what is there is read where it lies"
        return info("link-to-folder", text, "nothing to do").about(name)
    return None


def _file(files: AbstractFileSystem, entry: Mapping[str, Any], *, name: str) -> DocumentFile:
    size = entry.get("size")
    opener = cast(Callable[[], IO[bytes]], partial(files.open, entry["name"], "rb"))
    return DocumentFile(name=name, num_bytes=None if size is None else int(size), open=opener)


def _cannot_be_looked_at(place: str, error: Exception) -> ConfigError:
    text = str(error) or type(error).__name__
    return ConfigError(f"cannot be read ({text})", where=place, remedy="check the address, and your rights to read it")


def _readable(name: str) -> str:
    """A name with marks for the bytes that are no UTF-8, which could be neither printed nor stored."""
    return os.fsencode(name).decode("utf-8", "replace")
