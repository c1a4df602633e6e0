"""The test rows that two finished studies have in common: the same question with the same wanted answer.

A question is known by what its user says, and by its context: files may have been reordered or renamed since, which changes ids and
lines, and another instruction makes no other question. What an assistant said in between is not in a report, and not compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fettle.comparing.records import SharedRow, SharedRows
from fettle.examples.duplicates import plain_words
from fettle.report_records import AnswerRow
from fettle.statistics.clusters import joined_clusters
from fettle.votes.poll import say_the_same


def shared_rows(first: Sequence[AnswerRow], second: Sequence[AnswerRow], *, is_json: bool) -> SharedRows:
    """The rows of two test splits that are one question with one wanted answer; each row is used once.

    Args:
        first: The rows of the first study.
        second: Those of the second.
        is_json: Wanted answers are compared as JSON values.
    """
    left = _by_question(second)
    pairs: list[tuple[AnswerRow, AnswerRow]] = []
    num_other_answer = 0
    for question, ours in _by_question(first).items():
        theirs = left.get(question, [])
        found = _matched(ours, theirs, is_json=is_json)
        pairs += found
        num_other_answer += min(len(ours), len(theirs)) - len(found)
    place_of = {id(row): place for place, row in enumerate(first)}
    pairs.sort(key=lambda pair: place_of[id(pair[0])])
    clusters = joined_clusters(_clusters([ours for ours, _ in pairs]), _clusters([theirs for _, theirs in pairs]))
    return SharedRows(
        rows=tuple(
            SharedRow(first=ours, second=theirs, cluster=cluster)
            for (ours, theirs), cluster in zip(pairs, clusters, strict=True)
        ),
        num_first=len(first),
        num_second=len(second),
        num_other_answer=num_other_answer,
        has_clusters=any(row.cluster is not None for row in (*first, *second)),
    )


def _question(row: AnswerRow) -> str:
    """The question in plain words, as leaks are told: case, spaces and marks make no other one."""
    return plain_words(row.input_text) or row.input_text.strip().casefold()


def _by_question(rows: Iterable[AnswerRow]) -> dict[str, list[AnswerRow]]:
    found: dict[str, list[AnswerRow]] = {}
    for row in rows:
        found.setdefault(_question(row), []).append(row)
    return found


def _matched(
    ours: Sequence[AnswerRow], theirs: Sequence[AnswerRow], *, is_json: bool
) -> list[tuple[AnswerRow, AnswerRow]]:
    """Rows about one question with the same wanted answer, those with the same id first."""
    left, found = list(theirs), []
    unmatched = list(ours)
    for by_id in (True, False):
        still_unmatched = []
        for row in unmatched:
            candidates = (
                other
                for other in left
                if say_the_same(row.wanted, other.wanted, is_json=is_json)
                and (not by_id or row.example_id == other.example_id)
            )
            if (match := next(candidates, None)) is None:
                still_unmatched.append(row)
            else:
                left.remove(match)
                found.append((row, match))
        unmatched = still_unmatched
    return found


def _clusters(rows: Sequence[AnswerRow]) -> list[int]:
    """As a study has them; where it did not keep them, rows with one question belong together."""
    if all(row.cluster is not None for row in rows):
        return [row.cluster for row in rows if row.cluster is not None]
    numbers: dict[str, int] = {}
    return [numbers.setdefault(_question(row), len(numbers)) for row in rows]
