"""The folder of one study: whose it is, that nobody else works in it, and what of it is finished."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fettle.errors import StudyConflictError, disk_errors_explained
from fettle.files import write_atomically

_IDENTITY, _LOCK = "study.json", ".lock"


@contextmanager
def workspace(folder: Path, *, key: str, fresh: bool) -> Iterator[Path]:
    """The study's folder, locked against other processes for as long as it is used.

    Args:
        folder: Made where it does not exist.
        key: Hash of everything that can change the study's result.
        fresh: Throw away what an earlier run left.

    Raises:
        StudyConflictError: The folder holds another study, other files, or is in use.
    """
    if folder.exists() and not folder.is_dir():
        raise StudyConflictError(
            "this is a file, not a folder", where=str(folder), remedy="name another folder with --out"
        )
    with disk_errors_explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / _LOCK).open("a+")
    with contextlib.closing(lock):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.seek(0)
            raise StudyConflictError(
                f"another process ({lock.read().strip() or 'unknown'}) is working on this study",
                where=str(folder),
                remedy="wait for it, or choose another folder with --out",
            ) from error
        lock.truncate(0)
        lock.write(f"process {os.getpid()}")
        lock.flush()
        _claim(folder, key, fresh=fresh)
        yield folder


def _claim(folder: Path, key: str, *, fresh: bool) -> None:
    identity = folder / _IDENTITY
    contents = [path for path in folder.iterdir() if path.name != _LOCK]
    if not identity.exists():
        if contents:
            raise StudyConflictError(
                f"the folder is not empty and holds no study ({contents[0].name}, ...)",
                where=str(folder),
                remedy="choose another folder with --out",
            )
    elif json.loads(identity.read_text())["key"] != key or fresh:
        if not fresh:
            raise StudyConflictError(
                "the folder holds a study of other data or with other settings",
                where=str(folder),
                remedy="choose another folder with --out, or start over here with --fresh",
            )
        for path in contents:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    write_atomically(identity, json.dumps({"format": 1, "key": key}))
