"""A folder of search files that is replaced as a whole: a reader, or a kill, finds the old files or the new ones.

`manifest.json` names the folder in it that holds the files, with their sizes and hashes. New files are written into another folder
beside that one and synced before the manifest is replaced, in one step; then the old ones go. A reader that has them open goes on
reading them. No file holds code or a pickle.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from fettle.errors import ResourceError, disk_errors_explained
from fettle.files import alone_with, iter_files, sha256_of_file, write_atomically

_FORMAT = 1
_MANIFEST = "manifest.json"
_LOCK = ".building"
Opened = TypeVar("Opened")
_REMEDY = (
    "index the same documents again, or delete this folder and search: search files are made anew from what is stored, and nothing "
    "is embedded twice"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a folder of search files holds."""

    content: str
    """Name of the folder in it that has the files."""
    num_passages: int
    num_dimensions: int
    vectors: str
    """A `VectorForm`."""
    language: str | None
    """Whose endings full-text search leaves out of account."""
    files: dict[str, tuple[int, str | None]]
    """Bytes and hex SHA-256 by path below the content; None where reading it all to compare it would take too long."""


@contextmanager
def new_content(folder: Path) -> Iterator[Path]:
    """An empty folder for new files, which is deleted unless `publish` was called.

    Raises:
        StudyConflictError: Another process is building here.
        DiskFullError: No space is left; the old files are untouched.
    """
    lock = folder / _LOCK
    with alone_with(lock, doing="building this index", remedy="wait until it is done"), disk_errors_explained(folder):
        content = folder / f"files-{secrets.token_hex(6)}"
        content.mkdir()
        try:
            yield content
        finally:
            kept = _read(folder).content if (folder / _MANIFEST).is_file() else None
            for left_over in folder.glob("files-*"):  # of this build, of the one before, or of one that was killed
                if left_over.name != kept:
                    shutil.rmtree(left_over, ignore_errors=True)


def publish(
    content: Path,
    *,
    num_passages: int,
    num_dimensions: int,
    vectors: str,
    language: str | None,
    is_hashed: bool = True,
) -> None:
    """Have the files of `new_content` take the place of the old ones, once they are safe on disk.

    Args:
        content: The folder of the new files.
        num_passages: As in the manifest.
        num_dimensions: As in the manifest.
        vectors: As in the manifest.
        language: As in the manifest.
        is_hashed: Whether the bytes of the files are compared when they are opened, or only how many there are.
    """
    files: dict[str, tuple[int, str | None]] = {}
    for path in iter_files(content):
        _sync(path)
        files[str(path.relative_to(content))] = (path.stat().st_size, sha256_of_file(path) if is_hashed else None)
    for folder in {content, *(content / name for name in map(os.path.dirname, files))}:
        _sync(folder)
    manifest = Manifest(
        content=content.name,
        num_passages=num_passages,
        num_dimensions=num_dimensions,
        vectors=vectors,
        language=language,
        files=files,
    )
    write_atomically(content.parent / _MANIFEST, json.dumps({"format": _FORMAT} | asdict(manifest), indent=1))
    _sync(content.parent)


def open_content(folder: Path, open_files: Callable[[Path, Manifest], Opened]) -> Opened:
    """What `open_files` makes of the present files of a folder, after each was compared with its hash.

    Args:
        folder: In which `publish` has put them.
        open_files: Told where they lie and what is known of them; called again where they were replaced meanwhile.

    Raises:
        ResourceError: There are none, or they are not what was written.
    """
    while True:
        manifest = _read(folder)
        content = folder / manifest.content
        try:
            _compare_with_hashes(content, manifest)
            return open_files(content, manifest)
        except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
            if _read(folder).content == manifest.content:
                raise _damaged(folder, str(error).partition("\n")[0] or type(error).__name__) from error


def holds_files(folder: Path) -> bool:
    """Whether a build was finished here; whether its files are whole is looked at when they are opened."""
    return (folder / _MANIFEST).is_file()


def _compare_with_hashes(content: Path, manifest: Manifest) -> None:
    for name, (num_bytes, sha256) in manifest.files.items():
        path = content / name
        if path.stat().st_size != num_bytes or (sha256 and sha256_of_file(path) != sha256):
            raise ValueError(f"{name} is not what was written")


def _read(folder: Path) -> Manifest:
    path = folder / _MANIFEST
    try:
        row: dict[str, Any] = json.loads(path.read_text())
        if row.pop("format") != _FORMAT:
            raise _damaged(folder, "were written by another version of Fettle")
        row["files"] = {name: (int(size), sha256) for name, (size, sha256) in row["files"].items()}
        return Manifest(**row)
    except FileNotFoundError as error:
        raise ResourceError("there are no search files here", where=str(folder), remedy=_REMEDY) from error
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise _damaged(folder, f"{_MANIFEST} cannot be read") from error


def _damaged(folder: Path, what: str) -> ResourceError:
    return ResourceError(f"the search files are damaged: {what}", where=str(folder), remedy=_REMEDY)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
