"""The interface of what runs a grader's code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeCall:
    """One call of `grade(sample, item)`. Both are plain JSON values."""

    sample: Mapping[str, Any]
    item: Mapping[str, Any]


class CodeFault(StrEnum):
    """Why a call gave no number."""

    CODE = "code"
    """The user's: an exception, no number, too slow, too large, killed."""
    SERVER = "server"
    """Ours: the sandbox could not be started."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeOutcome:
    """What came of one call."""

    value: float | None
    """Finite; None: none came."""
    fault: CodeFault | None = None
    """Whose fault that is; None where there is a value."""
    details: str = ""
    """The end of the traceback, or what happened, at most some thousand characters; empty where there is a value."""


class CodeRunner(Protocol):
    """Runs `grade(sample, item)` as a user has written it."""

    def unavailable_because(self) -> str | None:
        """Why no code can be run here; None: it can."""
        ...

    def run(self, source: str, calls: Sequence[CodeCall]) -> tuple[CodeOutcome, ...]:
        """One outcome for each call, in order. No call sees what another one did. Nothing is raised for what the code does.

        Raises:
            BusyError: Too many others wait already.
        """
        ...
