"""The file that votes are kept in: JSON lines, of which each is on the disk before its vote counts as cast.

Several processes may write to one file. A vote whose line a kill has cut was never cast; the next writer removes its remains.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, BinaryIO, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from fettle.errors import ConfigError, DataError, disk_errors_explained
from fettle.votes.records import Choice, Sides, Undo, Vote

FILE_NAME = "votes.jsonl"


class _Line(BaseModel):
    model_config = ConfigDict(extra="forbid")

    rater: str
    example_id: str
    left: str
    right: str
    at: str

    @property
    def sides(self) -> Sides:
        return Sides(left=self.left, right=self.right)


class _VoteLine(_Line):
    kind: Literal["vote"] = "vote"
    choice: Choice
    seconds: float = Field(ge=0, allow_inf_nan=False)
    answers_sha256: str
    comment: str = ""

    def record(self) -> Vote:
        return Vote(
            rater=self.rater,
            example_id=self.example_id,
            sides=self.sides,
            choice=self.choice,
            seconds=self.seconds,
            at=self.at,
            answers_sha256=self.answers_sha256,
            comment=self.comment,
        )


class _UndoLine(_Line):
    kind: Literal["undo"] = "undo"

    def record(self) -> Undo:
        return Undo(rater=self.rater, example_id=self.example_id, sides=self.sides, at=self.at)


_LINES: TypeAdapter[_VoteLine | _UndoLine] = TypeAdapter(Annotated[_VoteLine | _UndoLine, Field(discriminator="kind")])


def require_writable(path: Path) -> None:
    """Make the file where there is none, so that a vote need not be lost to find out that it cannot be kept.

    Raises:
        ConfigError: It cannot be written.
    """
    try:
        with path.open("ab"):
            pass
    except OSError as error:
        raise ConfigError(
            f"votes are kept in the study's folder, and this file cannot be written ({error.strerror or error})",
            where=str(path),
            remedy="make the folder writable, or copy the study to a place of your own",
        ) from error


def append_record(path: Path, record: Vote | Undo) -> None:
    """Write one line and have it on the disk before returning. Other processes that write to the file wait their turn.

    Raises:
        DiskFullError: No space is left; the file is as it was.
        ConfigError: The file cannot be written.
    """
    line = (_line(record).model_dump_json() + "\n").encode()
    with disk_errors_explained(path), _locked(path) as file:
        end = _end_of_last_line(file)
        file.truncate(end)
        try:
            file.write(line)
            os.fsync(file.fileno())
        except OSError:
            file.truncate(end)
            raise
        if end == 0:
            _sync_folder(path.parent)


def read_records(path: Path) -> tuple[Vote | Undo, ...]:
    """All that was written, the earliest first; () where there is no file. The file is left as it is.

    Raises:
        DataError: A line is none that we wrote.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise DataError(
            f"cannot read the votes ({error.strerror or error})", where=str(path), remedy="make the file readable"
        ) from error
    lines = data[: data.rfind(b"\n") + 1].splitlines()
    return tuple(_record(line, f"{path}:{number}") for number, line in enumerate(lines, start=1))


def _line(record: Vote | Undo) -> _VoteLine | _UndoLine:
    sides = record.sides
    if isinstance(record, Undo):
        return _UndoLine(
            rater=record.rater, example_id=record.example_id, left=sides.left, right=sides.right, at=record.at
        )
    return _VoteLine(
        rater=record.rater,
        example_id=record.example_id,
        left=sides.left,
        right=sides.right,
        at=record.at,
        choice=record.choice,
        seconds=record.seconds,
        answers_sha256=record.answers_sha256,
        comment=record.comment,
    )


def _record(line: bytes, where: str) -> Vote | Undo:
    try:
        return _LINES.validate_json(line).record()
    except ValidationError as error:
        first = error.errors()[0]
        raise DataError(
            f"this line is no vote: {first['msg']}",
            where=where,
            remedy="put the line back as it was, or remove it",
        ) from error


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[BinaryIO]:
    """The file, made where there is none, for one writer at a time; unbuffered, so that a line is one write."""
    with path.open("a+b", buffering=0) as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # given up when the file is closed
        yield file


def _end_of_last_line(file: BinaryIO) -> int:
    """Bytes up to the end of the last whole line."""
    file.seek(0)
    return file.read().rfind(b"\n") + 1


def _sync_folder(folder: Path) -> None:
    """A new file must be found again after a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
