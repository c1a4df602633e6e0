"""Who keeps a study's outcome beside the study's own folder: a store, where there is one."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from fettle.study.run import StudyResult


class Keeper(Protocol):
    """Is told that a study runs, and what came of it."""

    def while_running(self) -> AbstractContextManager[object]:
        """Entered once the study's folder is locked, left when the study ends, be it with an error."""
        ...

    def keep(self, result: StudyResult) -> None:
        """The study is finished; it is still running for `while_running`."""
        ...


class NoKeeper:
    """Keeps nothing."""

    def while_running(self) -> AbstractContextManager[object]:
        """Nothing."""
        return nullcontext()

    def keep(self, result: StudyResult) -> None:
        """Nothing."""
