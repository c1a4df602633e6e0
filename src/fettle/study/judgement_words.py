"""A judgement in words, for the terminal and for the report's page: titles and sentences."""

from __future__ import annotations

from collections.abc import Iterator

from fettle.judging.records import JudgedComparison, JudgeFault, PositionBias
from fettle.records import Interval
from fettle.report_records import StudyReport
from fettle.statistics.agreement import AgreementWithPeople
from fettle.study.figures import amount, percent, percent_range

Line = tuple[str, str]
"""A title and a sentence."""
UNUSABLE = "what it says of the answers must not be used"
NOT_AT_EQUAL_LENGTH = "cannot be told: the answers of one of the two are longer in nearly all pairs"


def all_lines(judged: JudgedComparison, report: StudyReport) -> Iterator[Line]:
    """What forbids to use the judge, and then what came of it, a line for each figure."""
    titles = {contender.name: contender.title for contender in report.contenders}
    if not judged.is_usable:
        yield "Unusable judge", UNUSABLE
    for fault in judged.faults:
        yield "The judge", fault_words(fault)
    yield from _rates(judged, titles)
    yield from bias_lines(judged)
    yield from reply_lines(judged)


def fault_words(fault: JudgeFault) -> str:
    """One thing wrong with a judge, by name and with its evidence."""
    return f"{fault.kind.value}: {fault.evidence}"


def _rates(judged: JudgedComparison, titles: dict[str, str]) -> Iterator[Line]:
    of_ties = f", {judged.num_equal} of them because both say the same" if judged.num_equal else ""
    yield (
        "Win rate",
        f"{titles[judged.challenger]} against {titles[judged.baseline]}: {_told(judged.win_rate)}; "
        f"{judged.num_wins} won, {judged.num_losses} lost, {judged.num_ties} tied{of_ties}",
    )
    controlled = judged.length_controlled
    yield "At equal length", NOT_AT_EQUAL_LENGTH if controlled is None else _told(controlled)
    if judged.corrected is not None:
        people = judged.corrected
        yield (
            "As people would vote",
            f"{_told(people.corrected)} of pairs whose answers differ, from {people.num_judged:,} votes of the judge corrected by "
            f"{people.num_human:,} of people; by people's alone {_told(people.human_only)}",
        )


def bias_lines(judged: JudgedComparison) -> Iterator[Line]:
    """What moves it beside the answers, whether people agree with it, and how often it contradicts itself."""
    if judged.position is not None:
        yield "Order", _of_order(judged.position)
    if judged.length is not None:
        of = f"{judged.length.basis.value}, {judged.length.num_pairs} pairs"
        yield "Length", f"the longer answer wins {_told(judged.length.longer_wins)} ({of})"
    if judged.agreement is not None:
        yield "People", _of_people(judged.agreement)
    if judged.flips is not None:
        yield "Flips", f"asked the same once more it says otherwise in {_told(judged.flips.rate)}"


def _of_order(position: PositionBias) -> str:
    return (
        f"the answer shown first is preferred in {_told(position.first)} of replies; {percent(position.inconsistent.estimate)} of "
        "pairs are judged otherwise in the other order, and count as ties"
    )


def _of_people(found: AgreementWithPeople) -> str:
    kappa = f"Cohen's kappa {found.kappa.estimate:z.2f} ({found.kappa.low:z.2f} to {found.kappa.high:z.2f})"
    share = percent(found.share_agreed)
    return f"it votes like them on {share} of {found.num_examples:,} pairs; {kappa}: {found.decision.value}"


def reply_lines(judged: JudgedComparison) -> Iterator[Line]:
    """What became of the questions, and what it took."""
    counts, cost = judged.counts, judged.cost
    left = (
        f"; {judged.num_undecided} of {judged.num_pairs} pairs are undecided and left out"
        if judged.num_undecided
        else ""
    )
    yield (
        "Replies",
        f"{counts.num_readable:,} readable, {counts.num_unreadable:,} unreadable, {counts.num_failed:,} failed{left}",
    )
    for reason, count in counts.failures.items():
        yield "Failed", f"{count:,} times: {reason}"
    price = "" if cost.price is None else f", price {amount(cost.price)}"
    yield (
        "Took",
        f"{cost.prompt_tokens:,} tokens of prompts, {cost.reply_tokens:,} of replies, {cost.seconds:,.0f} s{price}",
    )
    yield "Rubric", judged.rubric_origin


def _told(interval: Interval) -> str:
    return f"{percent(interval.estimate)} ({percent_range(interval)})"
