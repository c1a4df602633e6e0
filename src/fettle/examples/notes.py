"""A finding before its place is known: the code that reads one row knows what is wrong, not which file and line it is on."""

from __future__ import annotations

from dataclasses import dataclass

from fettle.records import Action, Finding, Location, Severity


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """What a `Finding` says, without its place."""

    code: str
    severity: Severity
    action: Action
    message: str
    remedy: str

    def at(self, place: Location) -> Finding:
        """The finding at a line of a file."""
        return self._finding(place.file, place.line)

    def about(self, file: str) -> Finding:
        """The finding about a whole file."""
        return self._finding(file, None)

    def _finding(self, file: str, line: int | None) -> Finding:
        return Finding(
            code=self.code,
            severity=self.severity,
            action=self.action,
            message=self.message,
            remedy=self.remedy,
            file=file,
            line=line,
        )


class UnusableRowError(Exception):
    """A row that cannot become an example; `note` says why. Never leaves this package."""

    def __init__(self, code: str, problem: str, remedy: str) -> None:
        self.note = left_out(code, problem, remedy)
        super().__init__(problem)


def left_out(code: str, message: str, remedy: str) -> Note:
    """An error: the row is not used."""
    return Note(code=code, severity=Severity.ERROR, action=Action.LEFT_OUT, message=message, remedy=remedy)


def repaired(code: str, message: str, remedy: str) -> Note:
    """A warning: the row is used after a repair with only one possible meaning."""
    return Note(code=code, severity=Severity.WARNING, action=Action.REPAIRED, message=message, remedy=remedy)


def warning(code: str, message: str, remedy: str) -> Note:
    """A warning: the row is used as it is."""
    return Note(code=code, severity=Severity.WARNING, action=Action.KEPT, message=message, remedy=remedy)


def info(code: str, message: str, remedy: str) -> Note:
    """Something we decided for the user, who may decide otherwise."""
    return Note(code=code, severity=Severity.INFO, action=Action.KEPT, message=message, remedy=remedy)


def place_from(here: Location, there: Location) -> str:
    """How a finding at `here` calls the place `there`.

    >>> place_from(Location(file="a.csv", line=2), Location(file="a.csv", line=9))
    'line 9'
    """
    return f"line {there.line}" if here.file == there.file else str(there)
