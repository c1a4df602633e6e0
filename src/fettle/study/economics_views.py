"""Money as tables, sentences and charts of the report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from markupsafe import Markup

from fettle.economics_records import BreakEven, ContenderCost, CostTerm, EconomicsReport, Stated
from fettle.study import figures
from fettle.study.charts import (
    PLOT_HEIGHT,
    Scale,
    bottom_axis,
    curve,
    dot,
    horizontal_grid,
    linear_scale,
    side_axis,
)
from fettle.study.economics_words import money, plain_money, range_text


@dataclass(frozen=True, slots=True, kw_only=True)
class CostRow:
    """One contender in the table."""

    title: str
    right: str
    right_range: str
    per_thousand: str
    per_right: str
    full_per_thousand: str
    beforehand: str
    machines: str
    latencies: tuple[str, ...]
    """Seconds: median, 95th and 99th percentile."""
    net_value: str
    margin_from: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TermGroup:
    """The calculation of one sum."""

    title: str
    terms: tuple[CostTerm, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Calculation:
    """How the figures of one contender came about."""

    title: str
    groups: tuple[TermGroup, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EconomicsView:
    """What the page reads beside the record itself."""

    rows: tuple[CostRow, ...]
    has_value: bool
    """Whether the value of a right answer was said."""
    charts: tuple[tuple[str, Markup], ...]
    """With the opponents' titles."""
    calculations: tuple[Calculation, ...]
    stated: tuple[tuple[Stated, str], ...]
    """With its value as text."""


def view_economics(economics: EconomicsReport, titles: Mapping[str, str]) -> EconomicsView:
    """The tables, sentences and charts.

    Args:
        economics: What was worked out.
        titles: Of the contenders, by their names.
    """
    said = economics.assumptions
    return EconomicsView(
        rows=tuple(cost_row(one, titles) for one in economics.contenders),
        has_value=said.worth.value_per_right_answer is not None,
        charts=tuple(
            (titles.get(one.opponent, one.opponent), balance_chart(one, said.currency)) for one in economics.break_evens
        ),
        calculations=tuple(_calculation(one, titles) for one in economics.contenders),
        stated=tuple((one, range_text(one.value)) for one in economics.stated),
    )


def cost_row(cost: ContenderCost, titles: Mapping[str, str]) -> CostRow:
    """The figures of one contender as text, without their currency."""
    hosting = cost.hosting
    machines = figures.MISSING
    if hosting is not None:
        machines = f"{figures.count(hosting.num_machines)}, busy {figures.percent(hosting.utilisation)}"
    seconds = (cost.latency_seconds_p50, cost.latency_seconds_p95, cost.latency_seconds_p99)
    return CostRow(
        title=titles.get(cost.contender, cost.contender),
        right=figures.fixed(100 * cost.right_share.estimate, 1),
        right_range=f"{figures.fixed(100 * cost.right_share.low, 1)} to {figures.fixed(100 * cost.right_share.high, 1)}",
        per_thousand=plain_money(1000 * cost.cost_per_request),
        per_right=_or_missing(None if cost.cost_per_correct_answer is None else 1000 * cost.cost_per_correct_answer),
        full_per_thousand=plain_money(1000 * cost.full_cost_per_request),
        beforehand=plain_money(cost.setup_cost),
        machines=machines,
        latencies=tuple(figures.MISSING if one is None else figures.significant(one, 2) for one in seconds),
        net_value=_or_missing(cost.net_value_per_month),
        margin_from=_margin(cost),
    )


def _or_missing(value: float | None) -> str:
    return figures.MISSING if value is None else plain_money(value)


def _margin(cost: ContenderCost) -> str:
    """From how many requests a day on answers are worth more than they cost."""
    if cost.net_value_per_month is None:
        return figures.MISSING
    if cost.requests_per_day_for_margin is None:
        return "never"
    return figures.count(cost.requests_per_day_for_margin) if cost.requests_per_day_for_margin else "any number"


def _calculation(cost: ContenderCost, titles: Mapping[str, str]) -> Calculation:
    groups = (
        TermGroup(title="Answering one request", terms=cost.terms),
        TermGroup(title="Checks and errors, for one request", terms=cost.terms_of_errors),
        TermGroup(title="Beforehand", terms=cost.setup_terms),
        TermGroup(title="Training again, in a year", terms=cost.terms_per_year),
    )
    title = titles.get(cost.contender, cost.contender)
    return Calculation(title=title, groups=tuple(group for group in groups if group.terms))


def balance_chart(one: BreakEven, currency: str) -> Markup:
    """What has been saved by each day, from what was paid beforehand on, with nine of ten draws as a band."""
    points = one.balance
    edges = [edge for point in points for edge in (point.low, point.best, point.high)]
    scale_x, scale_y = linear_scale(0.0, points[-1].day), linear_scale(min(0.0, *edges), max(0.0, *edges))
    best = [(point.day, point.best) for point in points]
    crossing = Markup("")
    if one.num_days is not None and one.num_days <= points[-1].day:
        crossing = dot((one.num_days, 0.0), scale_x, scale_y, 5, "dot solid")
    spoken = (
        f"On day 0 {money(points[0].best, currency)}, on day {points[-1].day:.0f} {money(points[-1].best, currency)}"
    )
    return Markup(
        '<div class="chart plot balance" role="img" aria-label="Saved by day. {spoken}">'
        '<span class="axis-label top">Saved so far, {currency}</span>{side}'
        '<svg class="field" width="100%" height="{height}" aria-hidden="true" focusable="false">'
        "{grid}{band}{zero}{line}{crossing}</svg>"
        '{axis}<span class="axis-label bottom">Days</span></div>'
    ).format(
        spoken=spoken,
        currency=currency,
        side=side_axis(scale_y),
        height=PLOT_HEIGHT,
        grid=horizontal_grid(scale_y),
        band=_band(one, scale_x, scale_y),
        zero=Markup('<line class="zero" x1="0" x2="100%" y1="{y}%" y2="{y}%"/>').format(
            y=round(100 - scale_y.position(0.0), 3)
        ),
        line=curve(best, scale_x, scale_y, "curve valid"),
        crossing=crossing,
        axis=bottom_axis(scale_x.ticks, scale_x),
    )


def _band(one: BreakEven, scale_x: Scale, scale_y: Scale) -> Markup:
    edge = [(point.day, point.high) for point in one.balance] + [(point.day, point.low) for point in one.balance[::-1]]
    places = " ".join(f"{scale_x.position(day):g},{100 - scale_y.position(saved):g}" for day, saved in edge)
    return Markup(
        '<svg width="100%" height="100%" viewBox="0 0 100 100" preserveAspectRatio="none" overflow="visible">'
        '<polygon class="band" points="{places}"/></svg>'
    ).format(places=places)
