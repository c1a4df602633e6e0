"""Tables whose names are copied: each row is one line, however narrow the terminal is."""

from __future__ import annotations

from collections.abc import Sequence

import typer

from fettle.records import Interval


def print_table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows below their titles, in columns that are as wide as they must be."""
    lines = [tuple(titles), *map(tuple, rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        typer.echo("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())


def one_line(text: str, max_characters: int) -> str:
    """A text on one line that can only be read (an escape sequence must not steer the terminal), its end cut where it is long.

    >>> one_line("two\\nlines", 20), one_line("a long text", 8)
    ('two lines', 'a long …')
    """
    line = " ".join(text.split())
    line = "".join(character if character.isprintable() else "\ufffd" for character in line)
    return line if len(line) <= max_characters else line[: max_characters - 1] + "…"


def interval_bars(intervals: Sequence[Interval], *, width: int = 31) -> tuple[str, ...]:
    """Differences with their intervals on one common axis, a line each; a bar stands where 0 is.

    >>> intervals = [Interval(estimate=e, low=e - 0.1, high=e + 0.1) for e in (0.2, 0.0)]
    >>> interval_bars(intervals, width=9)
    ('  │ ├─●─┤', '├─●─┤    ')
    """
    low = min(0.0, *(interval.low for interval in intervals))
    high = max(0.0, *(interval.high for interval in intervals))
    span = (high - low) or 1.0

    def place(value: float) -> int:
        return round((value - low) / span * (width - 1))

    return tuple(_bar(place(one.low), place(one.estimate), place(one.high), place(0.0), width) for one in intervals)


def _bar(low: int, estimate: int, high: int, zero: int, width: int) -> str:
    cells = [" "] * width
    cells[low : high + 1] = "─" * (high + 1 - low)
    cells[zero] = "│" if cells[zero] == " " else "┼"
    cells[low], cells[high], cells[estimate] = "├", "┤", "●"
    return "".join(cells)
