"""A study that is over, as advice looks at it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fettle.advice.quoted import Quoted
from fettle.records import Comparison
from fettle.report_records import StudyReport


@dataclass(frozen=True, slots=True)
class Finished:
    """A study that is over."""

    report: StudyReport
    folder: Path

    @property
    def quoted(self) -> Quoted:
        """Figures of the report with their places."""
        return Quoted(self.report)

    @property
    def primary(self) -> Comparison | None:
        """The comparison that decided."""
        return next((one for one in self.report.comparisons if one.is_primary), None)

    def title(self, contender: str) -> str:
        """What people call it."""
        return next((one.title for one in self.report.contenders if one.name == contender), contender)
