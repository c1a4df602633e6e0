"""Tables whose names are copied: each row is one line, however narrow the terminal is."""

from __future__ import annotations

from collections.abc import Sequence

import typer


def print_table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows below their titles, in columns that are as wide as they must be."""
    lines = [tuple(titles), *map(tuple, rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        typer.echo("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())
