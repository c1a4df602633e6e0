"""Where the tuned contender of a finished study goes wrong: labels, fields, searching, answers cut short."""

from __future__ import annotations

from collections.abc import Iterator

from fettle.advice.again import study_again
from fettle.advice.quoted import Quoted, step
from fettle.advice_records import Measurement, NextStep
from fettle.records import TaskKind
from fettle.report_records import StudyReport
from fettle.retrieval_records import LostScore

_NUM_NAMED = 3
_MUCH_LOST = 0.05
"""Of the mean score: five points."""
_FEW_CONFUSED = 3


def challenger_of(report: StudyReport) -> str | None:
    """The contender that the verdict is about."""
    return next((one.challenger for one in report.comparisons if one.is_primary), None)


def errors_of_parts(report: StudyReport) -> Iterator[NextStep]:
    """The labels or fields that most of its errors are about."""
    challenger = challenger_of(report)
    for number, one in enumerate(report.part_scores):
        if one.contender != challenger:
            continue
        missed = {place: part.num_wanted - part.num_right for place, part in enumerate(one.parts)}
        worst = sorted((place for place in missed if missed[place] > 0), key=lambda place: (-missed[place], place))
        total, named = sum(missed.values()), worst[:_NUM_NAMED]
        if not named:
            return
        noun = "fields" if report.task.kind is TaskKind.JSON else "labels"
        quoted = Quoted(report)
        names = ", ".join(one.parts[place].name for place in named)
        figures = [
            quoted.words(
                f"part_scores[{number}].parts[{place}]",
                one.parts[place].name,
                f"{one.parts[place].num_right:,} of {one.parts[place].num_wanted:,} right",
            )
            for place in named
        ]
        share = sum(missed[place] for place in named) / total
        about = quoted.share(f"part_scores[{number}]", f"of all that it misses is of these {noun}", share)
        yield step(
            f"Add examples of what it misses most: {names}",
            (f"Most of what the tuned model misses is of few {noun}." if share > 0.5 else f"These {noun} it misses most.",
             about, *figures),
        )  # fmt: skip


def errors_of_labels(report: StudyReport) -> Iterator[NextStep]:
    """Two labels that are taken for each other: their definitions may overlap."""
    challenger = challenger_of(report)
    for number, one in enumerate(report.confusions):
        if one.contender != challenger:
            continue
        pairs = [
            (count, wanted, answered)
            for wanted, counts in enumerate(one.counts)
            for answered, count in enumerate(counts[: len(one.labels)])
            if wanted != answered
        ]
        if not pairs:
            return
        count, wanted, answered = max(pairs, key=lambda pair: (pair[0], -pair[1], -pair[2]))
        if count < _FEW_CONFUSED:
            return
        first, second = one.labels[wanted], one.labels[answered]
        found = Quoted(report).counted(
            f"confusions[{number}].counts[{wanted}][{answered}]", f"{first} answered as {second}", count, "test example"
        )
        yield step(
            f"Look whether {first} and {second} can be told apart",
            (
                "No other two labels are confused as often: their meaning may overlap, or examples of them be mislabelled.",
                found,
            ),
        )


def errors_of_search(report: StudyReport) -> Iterator[NextStep]:
    """With documents: whether searching or answering loses more. Answers cut short, and requests that failed."""
    yield from _lost_with_passages(report)
    challenger, quoted = challenger_of(report), Quoted(report)
    for number, one in enumerate(report.contenders):
        if one.name == challenger and one.num_truncated:
            found = quoted.counted(
                f"contenders[{number}].num_truncated", "answers cut short", one.num_truncated, "answer"
            )
            yield step(
                "Give answers more room, or look why they run on",
                ("Some answers reach the token limit.", found),
                commands=(study_again(report, "a longer limit, in tokens", "--max-new-tokens", "N"),),
            )
        if one.num_failed:
            found = quoted.counted(
                f"contenders[{number}].num_failed", "requests that failed", one.num_failed, "request"
            )
            yield step(
                f"Ask {one.title} again for what failed",
                ("The same command goes on where it was, and asks only what failed.", found),
            )


def _lost_with_passages(report: StudyReport) -> Iterator[NextStep]:
    retrieval = report.retrieval
    if retrieval is None or not retrieval.losses or not retrieval.num_searched:  # nobody has said where answers stand
        return
    scores = {one.name: one.metrics[0].interval.estimate for one in report.contenders if one.metrics}
    number, best = max(enumerate(retrieval.losses), key=lambda one: (scores.get(one[1].contender, 0.0), -one[0]))
    title = next((one.title for one in report.contenders if one.name == best.contender), best.contender)
    figures = _lost_figures(report, number, best, title)
    if max(best.lost_in_search, best.lost_in_answering) < _MUCH_LOST:
        return
    if best.lost_in_search >= best.lost_in_answering:
        yield step(
            "Improve the search before the model",
            ("More is lost because the right passage was not shown than in answering.", *figures),
            commands=(study_again(report, "more passages in a prompt", "--passages", "10"),),
        )
        return
    yield step(
        "Improve the answering: the search is not what fails",
        ("More is lost with the right passage in the prompt, or where none is, than in searching.", *figures),
    )


def _lost_figures(report: StudyReport, number: int, lost: LostScore, title: str) -> tuple[Measurement, ...]:
    quoted, place = Quoted(report), f"retrieval.losses[{number}].groups"
    return (
        quoted.points(place, f"{title} loses in searching", lost.lost_in_search),
        quoted.points(place, "and in answering", lost.lost_in_answering),
    )
