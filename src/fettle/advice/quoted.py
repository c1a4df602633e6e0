"""Figures of a report, quoted with the place in `report.json` where they stand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fettle.advice_records import Command, Measurement, NextStep, Reason, Unit
from fettle.records import Comparison, Interval
from fettle.report_records import StudyReport
from fettle.study.figures import DECISION_PHRASES, spoken

_FROM = "of the report"


def step(title: str, *reasons: Sequence[str | Measurement], commands: tuple[Command, ...] = ()) -> NextStep:
    """A step with its reasons, each of them a sentence and the figures that it rests on."""
    return NextStep(title=title, reasons=tuple(map(_reason, reasons)), commands=commands)


def _reason(parts: Sequence[str | Measurement]) -> Reason:
    text, *figures = parts
    assert isinstance(text, str), "a sentence comes first"
    return Reason(text=text, rests_on=tuple(one for one in figures if isinstance(one, Measurement)))


@dataclass(frozen=True, slots=True)
class Quoted:
    """One report."""

    report: StudyReport

    def decision(self) -> Measurement:
        """That of the verdict."""
        return self.words("verdict.decision", "verdict", DECISION_PHRASES[self.report.verdict.decision])

    def detectable(self) -> Measurement:
        """What the test split can show."""
        return Measurement(
            name="detectable",
            title="smallest difference that the test split can show",
            value=self.report.detectable.smallest_difference,
            unit=Unit.DIFFERENCE,
            how=_FROM,
            place="detectable.smallest_difference",
        )

    def difference(self, one: Comparison, number: int | None = None) -> Measurement:
        """Of two contenders."""
        number = self.report.comparisons.index(one) if number is None else number
        titles = {contender.name: contender.title for contender in self.report.contenders}
        names = [titles.get(name, name) for name in (one.challenger, one.baseline)]
        return self.change(f"comparisons[{number}].difference", f"{names[0]} minus {names[1]}", one.difference)

    def score(self, contender: str) -> Measurement:
        """The primary metric of a contender.

        Raises:
            LookupError: It has none.
        """
        number, found = next((i, one) for i, one in enumerate(self.report.contenders) if one.name == contender)
        interval = found.metrics[0].interval
        title = f"{spoken(found.metrics[0].grader)} of {found.title}"
        return self.interval_share(f"contenders[{number}].metrics[0]", title, interval)

    def metric(self, contender: str, grader: str, title: str) -> Measurement | None:
        """A further metric of a contender; None: it was not measured."""
        for number, found in enumerate(self.report.contenders):
            for place, metric in enumerate(found.metrics):
                if found.name == contender and metric.grader == grader:
                    return self.interval_share(f"contenders[{number}].metrics[{place}]", title, metric.interval)
        return None

    def latency(self, contender: str) -> Measurement | None:
        """The 95th percentile, asked alone; None: it was not measured."""
        for number, found in enumerate(self.report.contenders):
            value = found.resources.latency_seconds_p95
            if found.name == contender and value is not None:
                return Measurement(
                    name="latency_seconds_p95",
                    title="95 % of its answers take at most",
                    value=value,
                    unit=Unit.SECONDS,
                    how=_FROM,
                    place=f"contenders[{number}].resources.latency_seconds_p95",
                )
        return None

    def counted(self, place: str, title: str, number: float, noun: str) -> Measurement:
        """A count."""
        return Measurement(
            name=place, title=title, value=float(number), unit=Unit.COUNT, how=_FROM, noun=noun, place=place
        )

    def share(self, place: str, title: str, value: float) -> Measurement:
        """A share without an interval."""
        return Measurement(name=place, title=title, value=value, unit=Unit.SHARE, how=_FROM, place=place)

    def interval_share(self, place: str, title: str, interval: Interval) -> Measurement:
        """A share or mean score with its interval."""
        return Measurement(
            name=place,
            title=title,
            value=interval.estimate,
            unit=Unit.SHARE,
            how=interval.method or _FROM,
            interval=interval,
            place=place,
        )

    def change(self, place: str, title: str, interval: Interval) -> Measurement:
        """A difference with its interval."""
        return Measurement(
            name=place,
            title=title,
            value=interval.estimate,
            unit=Unit.DIFFERENCE,
            how=interval.method or _FROM,
            interval=interval,
            place=place,
        )

    def points(self, place: str, title: str, value: float) -> Measurement:
        """A difference without an interval."""
        return Measurement(name=place, title=title, value=value, unit=Unit.DIFFERENCE, how=_FROM, place=place)

    def requests(self, place: str, title: str, value: float) -> Measurement:
        """Traffic."""
        return Measurement(name=place, title=title, value=value, unit=Unit.REQUESTS_PER_DAY, how=_FROM, place=place)

    def money(self, place: str, title: str, value: float, currency: str) -> Measurement:
        """An amount."""
        return Measurement(name=place, title=title, value=value, unit=Unit.MONEY, how=_FROM, noun=currency, place=place)

    def words(self, place: str, title: str, text: str) -> Measurement:
        """A finding in words."""
        return Measurement(name=place, title=title, value=text, unit=Unit.WORDS, how=_FROM, place=place)
