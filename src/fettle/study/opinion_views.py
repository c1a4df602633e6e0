"""What the page's sections on judges and people show. Only their charts are markup."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from markupsafe import Markup

from fettle.judging.records import JudgedComparison
from fettle.records import Interval
from fettle.report_records import StudyReport
from fettle.study import figures
from fettle.study.charts import IntervalMark, interval_chart, outcome_bar
from fettle.study.judgement_words import NOT_AT_EQUAL_LENGTH, UNUSABLE, Line, bias_lines, fault_words, reply_lines
from fettle.study.opinions import Opinions
from fettle.votes.tally import RaterTally, Tally

_EVEN = 50.0
_LEVEL = 0.95
"""Of judges' and people's intervals; the grader's is higher from the second look on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeView:
    """One judge on two contenders."""

    judge: str
    between: str
    is_usable: bool
    unusable: str
    """What that means, in words."""
    faults: tuple[str, ...]
    """By name, with their evidence; what forbids to use the judge first."""
    chart: Markup
    caption: str
    gain: str
    """What the judge adds to people's votes; "" without any."""
    outcomes: Markup
    outcome_words: str
    lines: tuple[Line, ...]
    """Biases, replies and what it took."""
    rubric: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PeopleView:
    """All votes on two contenders."""

    between: str
    chart: Markup
    outcomes: Markup
    outcome_words: str
    lines: tuple[Line, ...]
    columns: tuple[str, str]
    """Titles of the two contenders."""
    raters: tuple[RaterTally, ...]


def judge_views(opinions: Opinions, report: StudyReport) -> tuple[JudgeView, ...]:
    """One view for each judgement."""
    return tuple(_judge_view(one, report) for one in opinions.judged)


def people_views(opinions: Opinions, report: StudyReport) -> tuple[PeopleView, ...]:
    """One view for each two contenders that people have voted on."""
    return tuple(_people_view(one, report) for one in opinions.voted)


def _judge_view(judged: JudgedComparison, report: StudyReport) -> JudgeView:
    between = _between(report, judged.challenger, judged.baseline)
    marks = [
        *_grader_marks(report, judged.challenger, judged.baseline),
        _mark("The judge", judged.win_rate, note="as it is", is_accented=judged.is_usable, is_solid=False),
        *_length_marks(judged),
        *_people_marks(judged),
    ]
    return JudgeView(
        judge=judged.judge,
        between=between,
        is_usable=judged.is_usable,
        unusable=UNUSABLE,
        faults=tuple(map(fault_words, judged.faults)),
        chart=interval_chart(marks, label="Win rate, %", limit=_EVEN),
        caption=_caption(judged, between),
        gain=_gain(judged),
        outcomes=outcome_bar(judged.num_wins, judged.num_ties, judged.num_losses),
        outcome_words=_outcomes(judged.num_wins, judged.num_ties, judged.num_losses),
        lines=tuple(_judge_lines(judged)),
        rubric=judged.rubric,
    )


def _length_marks(judged: JudgedComparison) -> Iterator[IntervalMark]:
    if judged.length_controlled is not None:
        yield _mark(
            "The judge", judged.length_controlled, note="at equal length", is_accented=judged.is_usable, is_solid=False
        )


def _people_marks(judged: JudgedComparison) -> Iterator[IntervalMark]:
    if (people := judged.corrected) is not None:
        if people.trust > 0:
            yield _mark("The judge", people.corrected, note="corrected by people", is_accented=True, is_solid=True)
        yield _mark("People alone", people.human_only, note="")


def _grader_marks(report: StudyReport, challenger: str, baseline: str) -> Iterator[IntervalMark]:
    """The win rate by the grader that decides, to be read beside; none where the two were not compared."""
    rate = figures.win_rate_against(report.comparisons, challenger, baseline)
    if rate is not None:
        level = "" if rate.level == _LEVEL else f", {figures.level_percent(rate.level)} interval"
        yield _mark(figures.heading(report.primary_metric), rate, note=f"grader{level}")


def _mark(title: str, rate: Interval, *, note: str, is_accented: bool = False, is_solid: bool = False) -> IntervalMark:
    return IntervalMark(
        title=title,
        note=note,
        low=100 * rate.low,
        estimate=100 * rate.estimate,
        high=100 * rate.high,
        value=figures.metric_value(rate.estimate, True),
        bounds=f"{figures.metric_value(rate.low, True)} to {figures.metric_value(rate.high, True)}",
        is_accented=is_accented,
        is_solid=is_solid,
    )


def _caption(judged: JudgedComparison, between: str) -> str:
    parts = [
        f"Win rate of {between}, ties as half, with {figures.level_percent(_LEVEL)} intervals; at the dashed line "
        "both are as good."
    ]
    if judged.length_controlled is None:
        parts.append(f"The rate at equal length {NOT_AT_EQUAL_LENGTH}.")
    if judged.corrected is not None and judged.num_equal:
        parts.append(
            "Where people are heard it is about pairs whose answers differ, else about all pairs, equal answers being ties."
        )
    return " ".join(parts)


def _gain(judged: JudgedComparison) -> str:
    """What the judge's votes add to those of people."""
    people = judged.corrected
    if people is None:
        return ""
    said = (
        f"People voted on {figures.counted(people.num_human, 'pair')} of the {figures.count(people.num_judged)} that the judge "
        "compared. "
    )
    if people.trust == 0:
        return said + "The judge tells nothing of how they vote, so they alone are heard."
    worth = round(people.num_human_worth)
    if worth <= people.num_human:
        return said + "The judge adds nothing to that: its votes follow theirs too little."
    return (
        said
        + f"With the judge’s votes, corrected by theirs, that is worth about {figures.count(worth)} votes of people."
    )


def _judge_lines(judged: JudgedComparison) -> Iterator[Line]:
    yield (
        "Pairs",
        f"{figures.count(judged.num_pairs)}, each shown in both orders"
        + (f" {judged.repeats} times" if judged.repeats > 1 else "")
        + (f"; {figures.count(judged.num_equal)} are equal, which makes them ties" if judged.num_equal else ""),
    )
    yield from bias_lines(judged)
    yield from reply_lines(judged)


def _people_view(voted: Tally, report: StudyReport) -> PeopleView:
    challenger, baseline = voted.contenders.challenger, voted.contenders.baseline
    marks = list(_grader_marks(report, challenger, baseline))
    if voted.win_rate is not None:
        marks.append(_mark("People", voted.win_rate, note="", is_accented=True, is_solid=True))
    counts = voted.counts
    num_ties = counts.num_ties + counts.num_both_bad
    return PeopleView(
        between=_between(report, challenger, baseline),
        chart=interval_chart(marks, label="Win rate, %", limit=_EVEN) if voted.win_rate is not None else Markup(""),
        outcomes=outcome_bar(counts.num_challenger, num_ties, counts.num_baseline),
        outcome_words=_outcomes(counts.num_challenger, num_ties, counts.num_baseline),
        lines=tuple(_people_lines(voted)),
        columns=(_title(report, challenger), _title(report, baseline)),
        raters=voted.raters,
    )


def _people_lines(voted: Tally) -> Iterator[Line]:
    counts = voted.counts
    yield (
        "Votes",
        f"{figures.count(counts.num_votes)} of {_persons(len(voted.raters))}, on {figures.counted(voted.num_judged, 'example')}"
        + (f"; {figures.count(counts.num_skipped)} skipped" if counts.num_skipped else ""),
    )
    both_bad = f", {figures.count(counts.num_both_bad)} of them because both are bad" if counts.num_both_bad else ""
    equal = (
        f"; {figures.counted(voted.num_equal, 'more example')} with equal answers, without a vote"
        if voted.num_equal
        else ""
    )
    yield "Ties", f"{figures.count(counts.num_ties + counts.num_both_bad)} votes{both_bad}{equal}"
    yield "Agreement", _agreement(voted)
    if voted.seconds_per_vote is not None:
        yield "Took", f"{figures.duration(voted.seconds_per_vote)} a vote, the median"
    if voted.num_outdated:
        yield (
            "Not counted",
            f"{figures.counted(voted.num_outdated, 'vote')} on answers that another run of the study has changed",
        )


def _agreement(voted: Tally) -> str:
    shared = figures.counted(voted.num_shared, "example")
    if voted.agreement is None:
        return (
            f"cannot be told: all votes on {shared} say the same"
            if voted.num_shared
            else "cannot be told: no example has votes of two people"
        )
    alpha = voted.agreement
    low, high = figures.fixed(alpha.low, 2), figures.fixed(alpha.high, 2)
    return (
        f"Krippendorff’s alpha {figures.fixed(alpha.estimate, 2)} ({low} to {high}) "
        f"on {shared} with votes of two people or more (0: by chance, 1: always)"
    )


def _persons(number: int) -> str:
    return f"1{figures.NO_BREAK}person" if number == 1 else f"{figures.count(number)}{figures.NO_BREAK}people"


def _outcomes(wins: int, ties: int, losses: int) -> str:
    lost = f"{figures.count(losses)}{figures.NO_BREAK}{'loss' if losses == 1 else 'losses'}"
    return f"{figures.counted(wins, 'win')}, {figures.counted(ties, 'tie')}, {lost}"


def _between(report: StudyReport, challenger: str, baseline: str) -> str:
    return f"{_title(report, challenger)} against {_title(report, baseline)}"


def _title(report: StudyReport, name: str) -> str:
    return next((one.title for one in report.contenders if one.name == name), name)
