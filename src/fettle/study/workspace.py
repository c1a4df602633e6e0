"""The folder of one study: whose it is, that nobody else works in it, and what of it is finished."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fettle.errors import StudyConflictError, disk_errors_explained
from fettle.files import alone_with, write_atomically

_IDENTITY, _LOCK = "study.json", ".lock"
_FORMAT = "fettle-study"
_CONTENTS = (
    "answers",
    "training",
    "engines",
    "judging",
    "grading",
    "declaration.json",
    "report.json",
    "report.html",
    "judged.json",
)
_CONTENTS += (_IDENTITY,)
"""What a study leaves in its folder. The identity comes last: while it stands, the rest is known to be ours."""


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
    refuse_foreign(folder)
    remedy = "wait for it, or choose another folder with --out"
    with alone_with(folder / _LOCK, doing="working on this study", remedy=remedy):
        _claim(folder, key, fresh=fresh)
        yield folder


def refuse_foreign(folder: Path) -> None:
    """Look, without leaving a trace, whether a study may use the folder: it is new, empty, or holds a study.

    Raises:
        StudyConflictError: It holds other files, or is a file itself.
        ConfigError: It cannot be looked into, or could not be made.
    """
    with disk_errors_explained(folder):
        if not folder.exists():
            _refuse_unwritable(folder)
            return
        if not folder.is_dir():
            raise StudyConflictError(
                "this is a file, not a folder", where=str(folder), remedy="name another folder with --out"
            )
        contents = sorted(path.name for path in folder.iterdir() if path.name != _LOCK)
    if contents and study_key(folder) is None:
        raise StudyConflictError(
            f"the folder is not empty and holds no study ({contents[0]}{', ...' if len(contents) > 1 else ''})",
            where=str(folder),
            remedy="choose another folder with --out",
        )


def _refuse_unwritable(folder: Path) -> None:
    """Raise now what making the folder would raise.

    Raises:
        OSError: As `mkdir`.
    """
    above = next(parent for parent in folder.absolute().parents if parent.exists())
    if not above.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(above))
    if not os.access(above, os.W_OK | os.X_OK):
        number = errno.EROFS if os.statvfs(above).f_flag & os.ST_RDONLY else errno.EACCES
        raise OSError(number, os.strerror(number), str(above))


def _claim(folder: Path, key: str, *, fresh: bool) -> None:
    refuse_foreign(folder)
    found = study_key(folder)
    if found is not None and found != key and not fresh:
        raise StudyConflictError(
            "the folder holds a study of other data or with other settings",
            where=str(folder),
            remedy="choose another folder with --out, or start over here with --fresh",
        )
    if fresh:
        for path in (folder / name for name in _CONTENTS):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    write_atomically(folder / _IDENTITY, json.dumps({"format": _FORMAT, "key": key}))


def study_key(folder: Path) -> str | None:
    """The key of the study in a folder; None: there is none."""
    try:
        identity = json.loads((folder / _IDENTITY).read_text())
    except (FileNotFoundError, UnicodeDecodeError, json.JSONDecodeError):
        return None
    is_ours = isinstance(identity, dict) and identity.get("format") == _FORMAT
    return str(identity.get("key")) if is_ours else None
