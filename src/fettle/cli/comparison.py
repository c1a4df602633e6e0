"""What `fettle compare` prints: the outcome, every comparison with its interval, what changed, what differs, what to mind."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby, takewhile

import typer

from fettle.cli.tables import interval_bars, one_line, print_table
from fettle.comparing.records import ChangedRow, ComparedArms, ComparedStudies, Difference
from fettle.study.figures import (
    MISSING,
    NO_BREAK,
    amount,
    counted,
    fixed,
    heading,
    level_percent,
    p_value,
    percent,
    points_range,
    setting,
    signed,
)

_HASH_CHARACTERS = 64
_MAX_NAME, _MAX_VALUE, _MAX_TEXT = 44, 44, 160
_NUM_BEFORE = 8
"""Characters that are shown before the place where two long texts part."""


def print_comparison(compared: ComparedStudies, *, num_rows: int) -> None:
    """Print what came of a comparison, with so many of the rows that became better, and as many that became worse."""
    _say(compared.headline)
    _say("")
    for line in _about_studies(compared):
        _say(line)
    _say("")
    _print_comparisons(compared)
    for title, changed in (("Became better", compared.fixed), ("Became worse", compared.broken)):
        _print_changed(title, changed, num_rows=num_rows)
    _print_differences(compared.differences)
    for note in compared.notes:
        _say(f"\nNote: {note}")


def _about_studies(compared: ComparedStudies) -> Iterator[str]:
    for study in compared.studies:
        model = "" if study.base_model is None else f", {study.base_model}"
        share = percent(compared.num_shared / study.num_test)
        yield one_line(
            f"{study.side.value}: {study.name} of {study.created_at}{model}; {counted(study.num_test, 'test row')}, {share} of "
            "them shared",
            2 * _MAX_TEXT,
        )
    yield f"Compared on {counted(compared.num_shared, 'test row')} that both have, by {heading(compared.primary_metric)}."


def _print_comparisons(compared: ComparedStudies) -> None:
    differences = [one.comparison.difference for one in compared.comparisons]
    bars = interval_bars(differences)
    titles = ("compared", "mean, %", "points", f"{level_percent(differences[0].level)} interval", "")
    titles += ("better", "same", "worse", "win rate, %", "p" if len(bars) == 1 else "p (Holm)")
    print_table(
        tuple(map(_plain, titles)),
        [tuple(map(_plain, _comparison_cells(one, bar))) for one, bar in zip(compared.comparisons, bars, strict=True)],
    )
    if len(bars) > 1:
        _say("The first decides. The p-values of the others are adjusted for each other.")


def _comparison_cells(one: ComparedArms, bar: str) -> tuple[str, ...]:
    comparison = one.comparison
    return (
        one_line(f"{comparison.challenger} \N{MINUS SIGN} {comparison.baseline}", _MAX_NAME),
        f"{fixed(100 * one.challenger_mean, 1)} \N{MINUS SIGN} {fixed(100 * one.baseline_mean, 1)}",
        signed(100 * comparison.difference.estimate, 1),
        points_range(comparison.difference),
        bar,
        str(comparison.num_wins),
        str(comparison.num_ties),
        str(comparison.num_losses),
        fixed(100 * comparison.win_rate.estimate, 1),
        p_value(comparison.p_value_adjusted),
    )


def _print_changed(title: str, changed: Sequence[ChangedRow], *, num_rows: int) -> None:
    if not changed or not num_rows:
        return
    more = f", {len(changed[:num_rows])} of them" if len(changed) > num_rows else ""
    _say(f"\n{title} ({counted(len(changed), 'row')}{more}):")
    for row in changed[:num_rows]:
        _say(f"  {one_line(row.source, _MAX_TEXT)}: {one_line(row.question, _MAX_TEXT)}")
        _say(f"    wanted      {one_line(row.wanted, _MAX_TEXT)}")
        _say(f"    {amount(100 * row.baseline_score):>6} %    {one_line(row.baseline_answer, _MAX_TEXT)}")
        _say(f"    {amount(100 * row.challenger_score):>6} %    {one_line(row.challenger_answer, _MAX_TEXT)}")


def _print_differences(differences: Sequence[Difference]) -> None:
    if not differences:
        _say("\nThe reports tell of no difference in settings, data, model or training.")
        return
    _say("\nWhat differs:")
    rows = []
    for group, members in groupby(differences, key=lambda one: one.group):
        for place, one in enumerate(members):
            cells = (one_line(one.name, _MAX_NAME), *_values(one))
            rows.append(("" if place else group, *cells))
    print_table(("", "", "A", "B"), rows)


def _values(one: Difference) -> tuple[str, str]:
    """Both values in cells; long texts from shortly before where they part."""
    first, second = _value(one.first), _value(one.second)
    start = len(list(takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False)))) - _NUM_BEFORE
    if start > 0 and max(len(first), len(second)) > _MAX_VALUE:
        first, second = f"…{first[start:]}", f"…{second[start:]}"
    return one_line(first, _MAX_VALUE), one_line(second, _MAX_VALUE)


def _value(value: object) -> str:
    """A value as text; of a hash its beginning, of a list of many its size."""
    if isinstance(value, str) and len(value) == _HASH_CHARACTERS and set(value) <= set("0123456789abcdef"):
        return value[:12]
    if isinstance(value, list) and len(value) > 5:
        return f"{len(value)} of them"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return setting(value) or MISSING


def _say(text: str) -> None:
    typer.echo(_plain(text))


def _plain(text: str) -> str:
    return text.replace(NO_BREAK, " ")
