"""Files that survive a kill and a full disk: atomic replacement, append-only JSON lines, hashes."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fettle.errors import StudyConflictError, disk_errors_explained


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replace `path` by `content` so that a reader, or a crash, sees the old file or the new one and nothing between.

    Raises:
        DiskFullError: No space is left; the old file is untouched.
        ConfigError: The folder cannot be written.
    """
    data = content.encode() if isinstance(content, str) else content
    with disk_errors_explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).chmod(0o644)
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise


@contextmanager
def replaced_folder(folder: Path) -> Iterator[Path]:
    """A hidden folder beside `folder` to write into, which takes its place at the end; an error leaves all as it was.

    A reader, or a kill, finds a whole folder or none.

    Raises:
        DiskFullError: No space is left.
        ConfigError: The place cannot be written.
    """
    temporary, old = (folder.with_name(f".{folder.name}.{what}") for what in ("new", "old"))
    with disk_errors_explained(folder):
        for left_over in (temporary, old):  # by a kill
            shutil.rmtree(left_over, ignore_errors=True)
        temporary.mkdir(parents=True)
        try:
            yield temporary
            if folder.exists():
                folder.rename(old)
            temporary.rename(folder)
        finally:
            for left_over in (temporary, old):
                shutil.rmtree(left_over, ignore_errors=True)


def move_durably(source: Path, target: Path) -> None:
    """Give a file that is whole and synced its place on the same disk, so that it is still there after a power cut."""
    with disk_errors_explained(target):
        source.replace(target)
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def write_json_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    """Replace a JSON-lines file by `rows`, all of them or none.

    Raises:
        DiskFullError: No space is left; the old file is untouched.
        ValueError: A row holds NaN or infinity.
    """
    write_atomically(path, _json_lines(rows))


def append_json_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    """Append `rows` to a JSON-lines file in one write, and have them on disk before returning.

    A line cut by a kill is mended by the next reader (`read_json_lines`), never by guessing.

    Raises:
        DiskFullError: No space is left.
        ValueError: A row holds NaN or infinity.
    """
    text = _json_lines(rows)
    with disk_errors_explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """The complete rows of a JSON-lines file that we wrote; [] when it does not exist.

    A last line without its line end was cut by a kill; it is removed from the file, so that the next append starts clean.
    """
    if not path.exists():
        return []
    data = path.read_bytes()
    complete = _complete_lines(data)
    if len(complete) < len(data):
        write_atomically(path, complete)
    return _rows(complete)


def peek_json_lines(path: Path) -> list[dict[str, Any]]:
    """As `read_json_lines`, for a file that another process may be writing: it is left as it is."""
    return _rows(_complete_lines(path.read_bytes())) if path.exists() else []


def _complete_lines(data: bytes) -> bytes:
    return data[: data.rfind(b"\n") + 1]


def _rows(lines: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines.split(b"\n") if line]


def _json_lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)


def sha256_of_file(path: Path) -> str:
    """The hex SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of_json(value: Any) -> str:
    """The hex SHA-256 of a value's canonical JSON text (sorted keys, no spaces)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


@contextmanager
def alone_with(lock: Path, *, doing: str, remedy: str) -> Iterator[None]:
    """Keep other processes out for as long as it lasts; a process that dies lets go.

    Args:
        lock: A file for this purpose alone, made with its folder where it does not exist.
        doing: What a process does that holds it, for the message.
        remedy: What to do while another one holds it.

    Raises:
        StudyConflictError: Another process holds it.
        ConfigError: The file cannot be written.
    """
    with disk_errors_explained(lock.parent):
        lock.parent.mkdir(parents=True, exist_ok=True)
        file = lock.open("a+")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            raise StudyConflictError(
                f"another process ({file.read().strip() or 'unknown'}) is {doing}",
                where=str(lock.parent),
                remedy=remedy,
            ) from error
        file.truncate(0)
        file.write(f"process {os.getpid()}")
        file.flush()
        yield


def copy_folder(source: Path, target: Path) -> None:
    """Have a copy of a folder, whole or not at all; an earlier one is replaced.

    Raises:
        DiskFullError: No space is left.
    """
    with replaced_folder(target) as folder:
        shutil.copytree(source, folder, dirs_exist_ok=True)


def iter_files(folder: Path) -> Iterator[Path]:
    """Every visible file below `folder`, in the order of their paths."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts):
            yield path
