"""What the page shows of a report beyond its plain fields: orders, groups and selections. No markup, no wording."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from fettle.records import Comparison, ContenderResult, Finding, Metric, Severity, TaskKind
from fettle.report_records import AnswerRow, Confusion, LossPoint, PartScore, StudyReport
from fettle.retrieval_records import ShownPassage

NUM_CONFUSED_LABELS = 12
NUM_CONFUSED_PAIRS = 8
NUM_HEATS = 8
MAX_PARTS_UNFOLDED = 15
MAX_PARTS = 200
NUM_WEAKEST_PARTS = 5
MAX_PLACES_PER_FINDING = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class PrimaryPair:
    """The comparison that the verdict stands on, with its two contenders."""

    comparison: Comparison
    challenger: ContenderResult
    baseline: ContenderResult


def primary_pair(report: StudyReport) -> PrimaryPair | None:
    """The primary comparison; None where nothing could be compared."""
    by_name = {contender.name: contender for contender in report.contenders}
    for comparison in report.comparisons:
        if comparison.is_primary and comparison.challenger in by_name and comparison.baseline in by_name:
            return PrimaryPair(
                comparison=comparison,
                challenger=by_name[comparison.challenger],
                baseline=by_name[comparison.baseline],
            )
    return None


def best_first(contenders: Iterable[ContenderResult]) -> tuple[ContenderResult, ...]:
    """Contenders by their primary score; those without one come last."""
    return tuple(sorted(contenders, key=_descending_score))


def _descending_score(contender: ContenderResult) -> tuple[bool, float]:
    if not contender.metrics:
        return True, 0.0
    return False, -contender.metrics[0].interval.estimate


def all_graders(contenders: Iterable[ContenderResult]) -> tuple[str, ...]:
    """Every grader that scored some contender, in the order in which they turn up."""
    return tuple(dict.fromkeys(metric.grader for contender in contenders for metric in contender.metrics))


def metric_of(contender: ContenderResult, grader: str) -> Metric | None:
    """The contender's metric by that grader; None where it was not scored by it."""
    return next((metric for metric in contender.metrics if metric.grader == grader), None)


# ---------------------------------------------------------------------------------------------------- findings


@dataclass(frozen=True, slots=True, kw_only=True)
class FindingGroup:
    """All findings of one code and severity."""

    code: str
    severity: Severity
    num_findings: int
    num_by_action: tuple[tuple[str, int], ...]
    remedies: tuple[str, ...]
    places: tuple[Finding, ...]
    """The first `MAX_PLACES_PER_FINDING` of them."""


def group_findings(findings: Iterable[Finding]) -> tuple[FindingGroup, ...]:
    """Findings by code: errors before warnings before information, the frequent before the rare."""
    members: dict[tuple[Severity, str], list[Finding]] = {}
    for finding in findings:
        members.setdefault((finding.severity, finding.code), []).append(finding)
    groups = [
        FindingGroup(
            code=code,
            severity=severity,
            num_findings=len(group),
            num_by_action=tuple(Counter(finding.action.value for finding in group).most_common()),
            remedies=tuple(dict.fromkeys(finding.remedy for finding in group if finding.remedy))[:3],
            places=tuple(group[:MAX_PLACES_PER_FINDING]),
        )
        for (severity, code), group in members.items()
    ]
    return tuple(sorted(groups, key=lambda group: (tuple(Severity).index(group.severity), -group.num_findings)))


# ---------------------------------------------------------------------------------------------------- confusion


@dataclass(frozen=True, slots=True, kw_only=True)
class HeatCell:
    """One cell of a confusion matrix. `heat` runs from 0 (none) to `NUM_HEATS` (the most of its kind)."""

    count: int
    heat: int
    is_right: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfusedPair:
    """How often one label was taken for another; `answered` is None for an answer that is no label at all."""

    wanted: str
    answered: str | None
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfusionView:
    """The part of a confusion matrix that is worth looking at."""

    contender: str
    num_answers: int
    num_wrong: int
    pairs: tuple[ConfusedPair, ...]
    labels: tuple[str, ...]
    cells: tuple[tuple[HeatCell, ...], ...]
    """[wanted][answered]; after the shown labels comes a column for the labels not shown, if any, and one for no label."""
    num_labels_not_shown: int


def view_confusions(confusions: Sequence[Confusion]) -> tuple[ConfusionView, ...]:
    """Each confusion matrix cut down to the same labels: those that are most often confused, over all contenders."""
    errors: Counter[str] = Counter()
    for confusion in confusions:
        for i, row in enumerate(confusion.counts):
            for j, number in enumerate(row):
                if i != j:
                    errors[confusion.labels[i]] += number
                    if j < len(confusion.labels):
                        errors[confusion.labels[j]] += number
    return tuple(_view_confusion(confusion, errors) for confusion in confusions)


def _view_confusion(confusion: Confusion, errors: Counter[str]) -> ConfusionView:
    num_labels = len(confusion.labels)
    ranked = sorted(range(num_labels), key=lambda i: -errors[confusion.labels[i]])
    shown = sorted(ranked[:NUM_CONFUSED_LABELS])
    hidden = ranked[NUM_CONFUSED_LABELS:]
    table: list[list[int]] = []
    for i in shown:
        row = confusion.counts[i]
        rest = [sum(row[j] for j in hidden)] if hidden else []
        table.append([*(row[j] for j in shown), *rest, row[num_labels]])
    wrong = [number for i, row in enumerate(table) for j, number in enumerate(row) if i != j]
    right = [row[i] for i, row in enumerate(table)]
    pairs = [
        ConfusedPair(wanted=confusion.labels[i], answered=confusion.labels[j] if j < num_labels else None, count=number)
        for i, row in enumerate(confusion.counts)
        for j, number in enumerate(row)
        if i != j and number
    ]
    return ConfusionView(
        contender=confusion.contender,
        num_answers=sum(map(sum, confusion.counts)),
        num_wrong=sum(pair.count for pair in pairs),
        pairs=tuple(sorted(pairs, key=lambda pair: -pair.count)[:NUM_CONFUSED_PAIRS]),
        labels=tuple(confusion.labels[i] for i in shown),
        cells=tuple(
            tuple(
                HeatCell(count=number, heat=_heat(number, max(right if i == j else wrong)), is_right=i == j)
                for j, number in enumerate(row)
            )
            for i, row in enumerate(table)
        ),
        num_labels_not_shown=len(hidden),
    )


def _heat(number: int, most: int) -> int:
    """From 0 for none to `NUM_HEATS` for the most; one already shows.

    >>> _heat(0, 9), _heat(1, 90), _heat(9, 9)
    (0, 1, 8)
    """
    return -(-NUM_HEATS * number // most) if number else 0


# ---------------------------------------------------------------------------------------------------- labels, fields


@dataclass(frozen=True, slots=True, kw_only=True)
class PartRow:
    """One label or field with the F1 of both contenders, in [0, 1]; None: every request that wanted it failed."""

    name: str
    num_wanted: int
    challenger: float | None
    baseline: float | None
    num_mistakes: int
    """Of the challenger: times missed and times wrongly answered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartsView:
    """The labels or fields that the test split wants."""

    rows: tuple[PartRow, ...]
    """The most often wanted first, `MAX_PARTS` at most."""
    weakest: tuple[PartRow, ...]
    """Where the challenger makes most mistakes; empty where `rows` are few enough to be seen at once."""
    num_parts: int
    num_unwanted: int
    """Labels or fields that one of the two answered and the test split never wants."""
    is_folded: bool


def view_parts(report: StudyReport) -> PartsView | None:
    """The two compared contenders label by label, or field by field; None where there is no such thing."""
    pair = primary_pair(report)
    by_contender = {one.contender: {part.name: part for part in one.parts} for one in report.part_scores}
    if pair is None:
        return None
    ours, theirs = (by_contender.get(one.name, {}) for one in (pair.challenger, pair.baseline))
    named = [_part_row(name, ours.get(name), theirs.get(name)) for name in ours | theirs]
    rows = [row for row in named if row.num_wanted]
    if not rows:
        return None
    is_folded = len(rows) > MAX_PARTS_UNFOLDED
    weakest = sorted((row for row in rows if row.num_mistakes), key=lambda row: (-row.num_mistakes, row.name))
    return PartsView(
        rows=tuple(sorted(rows, key=lambda row: (-row.num_wanted, row.name))[:MAX_PARTS]),
        weakest=tuple(weakest[:NUM_WEAKEST_PARTS]) if is_folded else (),
        num_parts=len(rows),
        num_unwanted=sum(row.challenger is not None or row.baseline is not None for row in named) - len(rows),
        is_folded=is_folded,
    )


def _part_row(name: str, ours: PartScore | None, theirs: PartScore | None) -> PartRow:
    return PartRow(
        name=name,
        num_wanted=max(one.num_wanted for one in (ours, theirs) if one is not None),
        challenger=None if ours is None else ours.f1,
        baseline=None if theirs is None else theirs.f1,
        num_mistakes=0 if ours is None else ours.num_wanted + ours.num_answered - 2 * ours.num_right,
    )


# ---------------------------------------------------------------------------------------------------- training, rows


def validation_points(loss_points: Iterable[LossPoint]) -> tuple[LossPoint, ...]:
    """The points at which the validation loss was measured."""
    return tuple(point for point in loss_points if point.valid_loss is not None)


def side_by_side(report: StudyReport) -> dict[str, Any]:
    """What the page's script needs to show every test row, as plain JSON values.

    Answers and scores are lists in the order of `contenders`: the challenger, the baseline, then the others by score.
    """
    pair = primary_pair(report)
    first = (pair.challenger, pair.baseline) if pair else ()
    contenders = (*first, *(other for other in best_first(report.contenders) if other not in first))
    names = [contender.name for contender in contenders]
    primary = next((metric_of(contender, report.primary_metric) for contender in contenders), None)
    return {
        "kind": report.task.kind.value,
        "hasPair": pair is not None,
        "isPercentage": primary.is_percentage if primary else True,
        "isMarked": report.task.kind is TaskKind.LABELS and _all_zero_or_one(report.rows),
        "contenders": [
            {"title": contender.title, "isFineTuned": contender.is_fine_tuned, "isAccented": contender in first[:1]}
            for contender in contenders
        ],
        "passages": {} if report.retrieval is None else {one.id: _told(one) for one in report.retrieval.passages},
        "rows": [
            {
                "id": row.example_id,
                "source": row.source,
                "input": row.input_text,
                "wanted": row.wanted,
                "answers": [row.answers.get(name) for name in names],
                "scores": [row.scores.get(name) for name in names],
                "errors": [row.errors.get(name) for name in names],
                "passages": [_passages_of(row, name) for name in names],
            }
            for row in report.rows
        ],
    }


def _passages_of(row: AnswerRow, name: str) -> list[dict[str, Any]]:
    """What a contender was shown for a row, in rank order, and which of it the answer names."""
    cited = row.cited.get(name, ())
    return [{"id": one, "isCited": one in cited} for one in row.passages.get(name, ())]


def _told(passage: ShownPassage) -> dict[str, str]:
    return {"title": passage.heading or passage.source, "source": passage.source, "text": passage.text}


def _all_zero_or_one(rows: Iterable[AnswerRow]) -> bool:
    return all(score in (0, 1, None) for row in rows for score in row.scores.values())
