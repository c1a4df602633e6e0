"""The one exception tree, its exit codes and its HTTP statuses.

A message has four parts: what was expected, what came, where, and what to do about it. Everything that a user can cause is a
`FettleError`; any other exception is our bug and ends with exit code 1 and an invitation to run again with `--debug`.
"""

from __future__ import annotations

import errno
import math
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class FettleError(Exception):
    """Something the user can act on. Never shown with a traceback unless `--debug` is given.

    Args:
        problem: What was expected and what came, in one or two sentences.
        where: The file and line, record, flag or URL concerned; None when the problem says it already.
        remedy: What to do about it, as an instruction; None only where nothing can be done.
    """

    def __init__(self, problem: str, *, where: str | None = None, remedy: str | None = None) -> None:
        self.problem = problem
        self.where = where
        self.remedy = remedy
        super().__init__(self.describe())

    def describe(self) -> str:
        """The whole message as one text.

        >>> FettleError("no rows", where="a.csv", remedy="add rows").describe()
        'a.csv: no rows. Remedy: add rows'
        """
        text = f"{self.where}: {self.problem}" if self.where else self.problem
        return f"{text.rstrip('.')}. Remedy: {self.remedy}" if self.remedy else text


class DataError(FettleError):
    """The examples cannot be used as they are."""


class ContextLengthError(DataError):
    """A prompt is longer than the model's context."""


class ConfigError(FettleError):
    """An option, a setting or a combination of them is wrong."""


class ModelError(FettleError):
    """A model name resolves to nothing, or what it resolves to cannot be loaded."""


class ResourceError(FettleError):
    """The machine lacks something: disk, memory, a processor feature."""


class EngineError(FettleError):
    """The model could not be run, which is no fault of who asked."""


class BusyError(ResourceError):
    """Too many requests wait already. The same request may be taken a little later.

    Args:
        problem: As of every error.
        remedy: As of every error.
        retry_after_seconds: When asking again is worth it, as far as can be told.
    """

    def __init__(self, problem: str, *, remedy: str | None = None, retry_after_seconds: float = 1.0) -> None:
        super().__init__(problem, remedy=remedy)
        self.retry_after_seconds = retry_after_seconds


class DiskFullError(ResourceError):
    """The disk, or the user's quota, is full. What was finished before is kept."""


class RemoteError(FettleError):
    """A remote endpoint did not answer, or answered with an error."""


class StudyConflictError(ConfigError):
    """The output folder belongs to another study, or another process is working in it."""


class IntegrityError(FettleError):
    """Carrying on would give silently wrong results: an inactive adapter, a wrong loss mask, a leaked test example."""


class WrongModelError(IntegrityError):
    """What answers is not the model that it stands for: the base model with an adapter, or the tuned one without."""


class DivergedError(IntegrityError):
    """A loss or a gradient is no finite number any more. Nothing of the step was kept."""


class TrainingPausedError(FettleError):
    """A run has stopped because it was asked to, and goes on from its checkpoint when it is started again."""


EXIT_CODES: dict[type[FettleError], int] = {FettleError: 2, IntegrityError: 1}
"""Exit code by class; a class without an entry takes that of its nearest parent."""

HTTP_STATUSES: dict[type[FettleError], int] = {
    FettleError: 400,
    ModelError: 404,
    ResourceError: 503,
    BusyError: 429,
    RemoteError: 502,
    IntegrityError: 500,
    EngineError: 500,
}
"""HTTP status by class; a class without an entry takes that of its nearest parent."""

EXIT_SHIP, EXIT_INTERNAL, EXIT_USER, EXIT_STAY, EXIT_CANNOT_TELL, EXIT_INTERRUPTED = 0, 1, 2, 3, 4, 130
EXIT_ALARM = 5
"""Requests are no longer what the test split was."""
EXIT_PAUSED, EXIT_BUSY = 75, 76
"""Of the process of a job: it goes on when it is started again; another one works on the job already."""


def exit_code(error: FettleError) -> int:
    """The process exit code for an error.

    >>> exit_code(DataError("no rows")), exit_code(IntegrityError("adapter is inactive"))
    (2, 1)
    """
    return _by_nearest_parent(EXIT_CODES, error)


def http_status(error: FettleError) -> int:
    """The HTTP status for an error.

    >>> http_status(ModelError("no such model"))
    404
    """
    return _by_nearest_parent(HTTP_STATUSES, error)


def _by_nearest_parent(table: dict[type[FettleError], int], error: FettleError) -> int:
    return next(table[parent] for parent in type(error).__mro__ if parent in table)


def require_range(name: str, value: float, *, low: float, high: float = math.inf) -> None:
    """Refuse a setting outside [low, high], or that is no finite number at all.

    Raises:
        ConfigError: Names the setting, what came and what is allowed.
    """
    if not (math.isfinite(value) and low <= value <= high):  # comparisons with NaN are false
        allowed = f"at least {low:g}" if high == math.inf else f"between {low:g} and {high:g}"
        raise ConfigError(
            f"expected a number {allowed}, and it is {value}",
            where=name,
            remedy=f"give a number {allowed}, or leave it out for the default",
        )


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_UNWRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EEXIST, errno.EISDIR)
_UNWRITABLE += (errno.ENAMETOOLONG,)
_ANOTHER_FOLDER = "choose another folder with --out, or with FETTLE_HOME for what is kept between studies"


@contextmanager
def disk_errors_explained(path: Path, *, remedy: str = _ANOTHER_FOLDER) -> Iterator[None]:
    """Turn the operating system's errors about writing `path` into messages a user can act on.

    Args:
        path: What is written.
        remedy: What to do where it cannot be written.

    Raises:
        DiskFullError: No space or quota is left.
        ConfigError: The place is read-only, or not the user's.
    """
    try:
        yield
    except Exception as error:
        number = _error_number(error)
        if number in _FULL:
            raise DiskFullError(
                "the disk is full; what was finished before is kept",
                where=str(path),
                remedy="free some space and run the same command again: it goes on where it was",
            ) from error
        if number in _UNWRITABLE:
            raise ConfigError(
                f"cannot write here ({os.strerror(number)})",
                where=str(path),
                remedy=remedy,
            ) from error
        raise


@contextmanager
def memory_errors_explained(doing: str) -> Iterator[None]:
    """Turn what Python and torch raise where the memory does not suffice into a message a user can act on.

    Raises:
        ResourceError: There was not enough memory for `doing`.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        if not isinstance(error, MemoryError) and not re.search("alloc|out of memory", str(error), re.IGNORECASE):
            raise
        raise ResourceError(
            f"out of memory while {doing} ({text})",
            remedy="use --precision fast, a smaller model or rank, or shorter examples; what was finished before is kept",
        ) from error


def _error_number(error: Exception) -> int:
    """The operating system's error number, 0 for none; safetensors, FAISS, NumPy and copies of folders pass it on in words only."""
    if isinstance(error, OSError) and error.errno:
        return error.errno
    if os.strerror(errno.ENOSPC) in str(error) or re.search(r"\d+ requested and \d+ written", str(error)):
        return errno.ENOSPC
    found = re.search(r"\(os error (\d+)\)|\[Errno (\d+)\]", str(error))
    return int(found[1] or found[2]) if found else 0
