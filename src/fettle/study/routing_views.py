"""The router of a study, as a chart and sentences of the report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from markupsafe import Markup

from fettle.routing.confidence import TITLES, Measure
from fettle.routing_records import CurvePoint, RoutingReport
from fettle.study import figures
from fettle.study.plots import Axis, PlotPoint, point_plot

_EDGE = 0.1
"""Share of the chart's width within which a label would run over its edge."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureRow:
    """A measure of confidence, as it did on validation, as texts."""

    title: str
    is_used: bool
    area: str
    below: str
    """How far it is below the one that is used, points of the mean score; empty for that one."""
    bounds: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingView:
    """What the page reads beside the record itself."""

    sentence: str
    chart: Markup
    measures: tuple[MeasureRow, ...]
    large: str
    """The title of the large model."""


def view_routing(routing: RoutingReport, titles: Mapping[str, str]) -> RoutingView:
    """The chart and the sentences.

    Args:
        routing: What was found.
        titles: Of the contenders, by their names.
    """
    return RoutingView(
        sentence=routing_sentence(routing, titles),
        chart=routing_chart(routing),
        measures=tuple(_row(routing, number) for number in range(len(routing.measures))),
        large=titles.get(routing.large, routing.large),
    )


def routing_sentence(routing: RoutingReport, titles: Mapping[str, str]) -> str:
    """What the router does and what may be promised of it: the share to the large model, the saving, quality and confidence."""
    small, large = (titles.get(name, name) for name in (routing.small, routing.large))
    target, confidence = figures.percent(routing.target), figures.level_percent(routing.level)
    derived = " (derived: 95 % of what it reached on validation)" if routing.is_target_derived else ""
    if not routing.is_promised:
        reached = figures.percent(routing.large_quality.estimate)
        return (
            f"A mean score of {target}{derived} cannot be promised with {confidence} confidence: everything would go to {large}, "
            f"which reached {reached} on {figures.counted(routing.num_calibrated, 'test example')}{_too_few(routing)}."
        )
    promise = f"a mean score of at least {target}{derived} is promised with {confidence} confidence"
    if routing.rule.threshold is None:
        return f"Everything has to go to {large}: only so {promise}."
    share = routing.share_to_large
    return (
        f"{small} answers what it is sure of, and {figures.percent(share.estimate)} of the requests "
        f"({figures.percent_range(share)}) go to {large}: {promise}, from "
        f"{figures.counted(routing.num_calibrated, 'test example')}. {_saving(routing, large)}"
    )


def routing_chart(routing: RoutingReport) -> Markup:
    """Mean score against the share that goes to the large model, the chosen threshold ringed and the target marked."""
    share = routing.share_to_large.estimate
    chosen = PlotPoint(
        x=100 * share,
        y=100 * routing.quality.estimate,
        low=100 * routing.quality.low,
        high=100 * routing.quality.high,
        label="chosen",
        anchor="start" if share < _EDGE else "end" if share > 1 - _EDGE else "middle",
        is_accented=True,
    )
    shown = [_plot_point(point) for point in routing.curve]
    shown[:1] = [replace(one, label="large alone", anchor="end") for one in shown[:1]]
    drawn = sorted([*(one for one in shown if one.x != chosen.x), chosen], key=lambda one: one.x)
    return point_plot(
        drawn,
        across=Axis(label="Share of requests that go to the large model, %", from_zero=True),
        up=Axis(label="Mean score, %", limit=100 * routing.target),
    )


def _plot_point(point: CurvePoint) -> PlotPoint:
    return PlotPoint(
        x=100 * point.share_to_large,
        y=100 * point.quality.estimate,
        low=100 * point.quality.low,
        high=100 * point.quality.high,
        label="",
    )


def _saving(routing: RoutingReport, large: str) -> str:
    if routing.costs is None:
        spared = figures.percent(1 - routing.share_to_large.estimate)
        return f"That spares {spared} of the requests to {large}; what it saves depends on what both cost."
    cost = figures.amount(1000 * routing.costs.cost_per_request(routing.share_to_large.estimate))
    saving = routing.costs.saving(routing.share_to_large.estimate)
    if saving is None:
        return f"A thousand requests cost {cost}, and {large} alone costs nothing."
    alone = figures.amount(1000 * routing.costs.large_per_request)
    told = f"{figures.percent(saving)} less" if saving >= 0 else f"{figures.percent(-saving)} more"
    return f"A thousand requests cost {cost}, {told} than {large} alone ({alone})."


def _too_few(routing: RoutingReport) -> str:
    if routing.num_calibrated >= routing.num_needed:
        return ""
    return f"; it takes at least {routing.num_needed:,} of them, all answered right, to promise so much"


def _row(routing: RoutingReport, place: int) -> MeasureRow:
    tried = routing.measures[place]
    below = tried.below_chosen
    return MeasureRow(
        title=TITLES[Measure(tried.measure)],
        is_used=below is None,
        area=figures.fixed(100 * tried.area, 1),
        below="" if below is None else figures.fixed(100 * below.estimate, 1),
        bounds="" if below is None else figures.points_range(below),
    )
