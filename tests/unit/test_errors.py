from __future__ import annotations

import errno
import inspect
from pathlib import Path

import pytest

from fettle import errors
from fettle.errors import (
    ConfigError,
    DataError,
    DiskFullError,
    FettleError,
    IntegrityError,
    ResourceError,
    disk_errors_explained,
    exit_code,
    http_status,
    memory_errors_explained,
    require_range,
)

CLASSES = [one for _, one in inspect.getmembers(errors, inspect.isclass) if issubclass(one, FettleError)]


def test_a_message_says_where_what_and_what_to_do() -> None:
    error = DataError("there is no column 'text'.", where="a.csv", remedy="name one with --input")
    assert str(error) == "a.csv: there is no column 'text'. Remedy: name one with --input"
    assert str(FettleError("no rows")) == "no rows"
    assert (error.problem, error.where, error.remedy) == (
        "there is no column 'text'.",
        "a.csv",
        "name one with --input",
    )


@pytest.mark.parametrize("kind", CLASSES)
def test_every_error_has_an_exit_code_and_a_status(kind: type[FettleError]) -> None:
    error = kind("problem")
    assert exit_code(error) == (1 if issubclass(kind, IntegrityError) else 2)
    assert 400 <= http_status(error) < 600


def test_nearest_parent_decides() -> None:
    assert http_status(DiskFullError("full")) == 503
    assert http_status(errors.StudyConflictError("in use")) == 400


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_told_as_such(number: int) -> None:
    said = pytest.raises(DiskFullError, match="run: the disk is full; what was finished before is kept")
    with said, disk_errors_explained(Path("run")):
        raise OSError(number, "words of the system")


@pytest.mark.parametrize(
    "number", [errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG]
)
def test_a_place_that_cannot_be_written_is_told_as_such(number: int) -> None:
    with pytest.raises(ConfigError, match=r"run: cannot write here \(.*--out"), disk_errors_explained(Path("run")):
        raise OSError(number, "words of the system")


@pytest.mark.parametrize("error", [
    RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"),  # safetensors
    OSError("98304 requested and 4096 written"),  # NumPy
    RuntimeError("Error in write_index: write error in graph.faiss: 0 != 1 (No space left on device)"),  # FAISS
])  # fmt: skip
def test_the_words_of_libraries_are_understood(error: Exception) -> None:
    with pytest.raises(DiskFullError), disk_errors_explained(Path("run")):
        raise error


@pytest.mark.parametrize("error", [OSError(errno.EIO, "broken"), RuntimeError("os error"), ValueError("28")])
def test_anything_else_passes_as_it_is(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, disk_errors_explained(Path("run")):
        raise error
    assert caught.value is error


def test_errors_that_are_explained_already_are_left_alone() -> None:
    with pytest.raises(DataError, match="no rows"), disk_errors_explained(Path("run")):
        raise DataError("no rows")


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_the_ends_of_a_range_belong_to_it(value: float) -> None:
    require_range("share", value, low=0, high=1)


@pytest.mark.parametrize("value", [-1e-9, 1.1, float("nan"), float("inf"), float("-inf")])
def test_outside_a_range_and_no_number_are_refused(value: float) -> None:
    with pytest.raises(ConfigError, match="share: expected a number between 0 and 1, and it is"):
        require_range("share", value, low=0, high=1)


def test_a_range_without_an_upper_end() -> None:
    require_range("epochs", 10**9, low=1)
    with pytest.raises(ConfigError, match="epochs: expected a number at least 1, and it is inf"):
        require_range("epochs", float("inf"), low=1)


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes")])
def test_too_little_memory_is_a_mistake_that_the_user_can_mend(error: Exception) -> None:
    with (
        pytest.raises(ResourceError, match="out of memory while measuring") as found,
        memory_errors_explained("measuring"),
    ):
        raise error
    assert exit_code(found.value) == 2


def test_other_errors_are_not_taken_for_too_little_memory() -> None:
    with pytest.raises(RuntimeError, match="shapes"), memory_errors_explained("measuring"):
        raise RuntimeError("shapes differ")
