"""The report's charts, as small pure functions from records to markup.

Every chart is SVG whose positions are percentages of its width, so that it stretches to any page while its text and its dots keep
their size. Colours come from the style sheet by class. Whatever is text is escaped by `Markup.format`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup

from fettle.report_records import LengthHistogram, LossPoint
from fettle.study.figures import count, fixed, significant

MAX_CURVE_POINTS = 400
LOG_SCALE_FROM_RATIO = 20.0
"""A loss that falls by more than this factor is drawn on a logarithmic axis: a linear one would flatten its better part."""

LONG_TITLE = 60
"""Characters above which a title in a chart or table is cut."""

TRACK_HEIGHT = 34
PLOT_HEIGHT = 260
HISTOGRAM_HEIGHT = 96


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Maps values to percentages of a chart's width or height."""

    low: float
    high: float
    ticks: tuple[float, ...]
    is_log: bool = False

    def position(self, value: float) -> float:
        """Where `value` lies, in per cent of the axis, held inside it.

        >>> Scale(low=0, high=4, ticks=()).position(1)
        25.0
        """
        low, high = (math.log(self.low), math.log(self.high)) if self.is_log else (self.low, self.high)
        place = math.log(max(value, self.low)) if self.is_log else value
        return round(min(100.0, max(0.0, 100 * (place - low) / (high - low))), 3)


def linear_scale(low: float, high: float, *, max_ticks: int = 6) -> Scale:
    """A scale from the round number below `low` to the one above `high`.

    >>> linear_scale(0.71, 0.93, max_ticks=6).ticks
    (0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
    """
    size = max(1.0, abs(low), abs(high))
    span = high - low if high - low > 1e-6 * size else size
    power = 10.0 ** math.floor(math.log10(span / max_ticks))
    steps = (power * factor for factor in (1, 2, 2.5, 5, 10, 20, 25, 50))
    step = next(step for step in steps if math.ceil(high / step - 1e-9) - math.floor(low / step + 1e-9) < max_ticks)
    first = math.floor(low / step + 1e-9)
    last = max(math.ceil(high / step - 1e-9), first + 1)
    ticks = tuple(round(number * step, 10) for number in range(first, last + 1))
    return Scale(low=ticks[0], high=ticks[-1], ticks=ticks)


def log_scale(low: float, high: float) -> Scale:
    """A logarithmic scale with ticks at 1, 2 and 5 times the powers of ten, or at the powers alone where they are many.

    >>> log_scale(0.04, 3).ticks
    (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
    """
    factors = (1, 2, 5) if high / low < 300 else (1,)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = tuple(round(factor * 10.0**power, 10) for power in powers for factor in factors)
    return Scale(low=low, high=high, ticks=tuple(tick for tick in ticks if low <= tick <= high), is_log=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class IntervalMark:
    """One line of an interval chart, in the chart's unit."""

    title: str
    note: str
    low: float
    estimate: float
    high: float
    value: str
    """The estimate as text."""
    bounds: str
    """The interval as text."""
    is_accented: bool = False
    is_solid: bool = False


def interval_chart(
    marks: Sequence[IntervalMark], *, label: str, zero_line: bool = False, limit: float | None = None
) -> Markup:
    """Dots with their intervals on one common axis, one line per mark.

    Args:
        marks: What to draw, from top to bottom.
        label: What the axis measures, with its unit.
        zero_line: Keep zero on the axis and mark it: for differences.
        limit: Keep this value on the axis and mark it; None: there is none.
    """
    edges = [edge for mark in marks for edge in (mark.low, mark.high)] + [0.0] * (zero_line or not marks)
    edges += [] if limit is None else [limit]
    scale = linear_scale(min(edges), max(edges))
    lines = Markup("").join(_interval_line(mark, scale, zero_line, limit) for mark in marks)
    axis = bottom_axis(scale.ticks, scale)
    spoken = "; ".join(f"{mark.title}: {mark.value} ({mark.bounds})" for mark in marks)
    return Markup(
        '<div class="chart intervals" role="img" aria-label="{label}. {spoken}">{lines}'
        '<div class="interval-axis">{axis}<span class="axis-label">{label}</span></div></div>'
    ).format(label=label, spoken=spoken, lines=lines, axis=axis)


def clamped(title: str) -> Markup:
    """A contender's title; a very long one is cut to a few lines, whole when pointed at."""
    kind = "clamped long" if len(title) > LONG_TITLE else "clamped"
    return Markup('<span class="{kind}" title="{title}">{title}</span>').format(kind=kind, title=title)


def _interval_line(mark: IntervalMark, scale: Scale, zero_line: bool, limit: float | None) -> Markup:
    grid = Markup("").join(
        Markup('<line class="{kind}" x1="{x}%" x2="{x}%" y1="0" y2="100%"/>').format(
            kind="zero" if zero_line and tick == 0 else "grid", x=scale.position(tick)
        )
        for tick in scale.ticks
    )
    if limit is not None:
        grid += Markup('<line class="limit" x1="{x}%" x2="{x}%" y1="0" y2="100%"/>').format(x=scale.position(limit))
    low, middle, high = (scale.position(value) for value in (mark.low, mark.estimate, mark.high))
    return Markup(
        '<div class="interval-line{accent}"><span class="name">{title}{note}</span>'
        '<svg class="track" width="100%" height="{height}" aria-hidden="true" focusable="false">{grid}'
        '<line class="whisker" x1="{low}%" x2="{high}%" y1="50%" y2="50%"/>'
        '<line class="whisker" x1="{low}%" x2="{low}%" y1="38%" y2="62%"/>'
        '<line class="whisker" x1="{high}%" x2="{high}%" y1="38%" y2="62%"/>'
        '<circle class="{dot}" cx="{middle}%" cy="50%" r="5"/></svg>'
        '<span class="value"><b>{value}</b> <span class="bounds">{bounds}</span></span></div>'
    ).format(
        accent=" accented" if mark.is_accented else "",
        title=clamped(mark.title),
        note=Markup(' <span class="tag">{note}</span>').format(note=mark.note) if mark.note else "",
        height=TRACK_HEIGHT,
        grid=grid,
        low=low,
        middle=middle,
        high=high,
        dot="dot solid" if mark.is_solid else "dot",
        value=mark.value,
        bounds=mark.bounds,
    )


def bottom_axis(ticks: Iterable[float], scale: Scale) -> Markup:
    """Tick labels along the bottom of a chart."""
    labels = Markup("").join(
        Markup('<text class="middle" x="{x}%" y="14">{text}</text>').format(
            x=scale.position(tick), text=_tick_text(tick)
        )
        for tick in ticks
    )
    return Markup('<svg class="axis" width="100%" height="20" aria-hidden="true" focusable="false">{}</svg>').format(
        labels
    )


def _tick_text(value: float) -> str:
    return fixed(value, next(number for number in range(9) if math.isclose(round(value, number), value, abs_tol=1e-9)))


def outcome_bar(wins: int, ties: int, losses: int) -> Markup:
    """Wins, ties and losses as one bar; drawn without text, which stands beside it."""
    total = max(1, wins + ties + losses)
    parts = []
    start = 0.0
    for kind, number in (("win", wins), ("tie", ties), ("loss", losses)):
        width = 100 * number / total
        parts.append(
            Markup('<rect class="{kind}" x="{x}%" width="{width}%" height="100%"/>').format(
                kind=kind, x=round(start, 3), width=round(width, 3)
            )
        )
        start += width
    return Markup(
        '<svg class="outcomes" width="100%" height="10" role="img" aria-label="{label}">{parts}</svg>'
    ).format(label=f"{count(wins)} wins, {count(ties)} ties, {count(losses)} losses", parts=Markup("").join(parts))


def rate_bar(rate: float) -> Markup:
    """A rate in [0, 1] and what it lacks to 1 as one bar; drawn without text, which stands beside it."""
    width = round(100 * rate, 3)
    return Markup(
        '<svg class="rate-bar" width="100%" height="8" aria-hidden="true" focusable="false">'
        '<rect class="right" x="0%" width="{width}%" height="100%"/>'
        '<rect class="wrong" x="{width}%" width="{rest}%" height="100%"/></svg>'
    ).format(width=width, rest=round(100 - width, 3))


def loss_chart(loss_points: Sequence[LossPoint], *, best_step: int, num_steps: int) -> Markup:
    """Training loss by step as a light line, validation loss as dots joined by a line, the best step marked.

    Returns an empty text where no loss was recorded.
    """
    train = [(point.step, point.train_loss) for point in loss_points if point.train_loss is not None]
    valid = [(point.step, point.valid_loss) for point in loss_points if point.valid_loss is not None]
    if not train and not valid:
        return Markup("")
    train = _thinned(train)
    scale_y = _loss_scale([loss for _, loss in (*train, *valid)])
    last_step = max([num_steps, best_step, *(step for step, _ in (*train, *valid))])
    scale_x = _step_scale(last_step)
    best_loss = dict(valid).get(best_step)
    summary = (
        f"Loss by training step. Training: {_from_to(train)}. Validation: {_from_to(valid)}. Best step {count(best_step)}"
        + (f" with validation loss {significant(best_loss)}." if best_loss is not None else ".")
    )
    return Markup(
        '<div class="chart plot" role="img" aria-label="{summary}">'
        '<span class="axis-label top">Loss, nats per trained token{log}</span>{side}'
        '<svg class="field" width="100%" height="{height}" aria-hidden="true" focusable="false">'
        "{grid}{best_line}{train}{valid}{dots}{best_dot}</svg>"
        '{axis}<span class="axis-label bottom">Training step</span></div>'
    ).format(
        summary=summary,
        log=" (logarithmic)" if scale_y.is_log else "",
        side=side_axis(scale_y),
        height=PLOT_HEIGHT,
        grid=horizontal_grid(scale_y),
        best_line=Markup('<line class="best" x1="{x}%" x2="{x}%" y1="0" y2="100%"/>').format(
            x=scale_x.position(best_step)
        ),
        train=curve(train, scale_x, scale_y, "curve train"),
        valid=curve(valid, scale_x, scale_y, "curve valid"),
        dots=Markup("").join(dot(point, scale_x, scale_y, 4, "dot solid") for point in valid),
        best_dot="" if best_loss is None else dot((best_step, best_loss), scale_x, scale_y, 9, "ring"),
        axis=bottom_axis(scale_x.ticks, scale_x),
    )


def _step_scale(last_step: int) -> Scale:
    """From 0 to the last step, which gets a tick of its own."""
    end = max(1, last_step)
    rounded = linear_scale(0, end).ticks
    ticks = (*(tick for tick in rounded if end - tick > 0.5 * (rounded[1] - rounded[0])), end)
    return Scale(low=0, high=end, ticks=ticks)


def _loss_scale(losses: Sequence[float]) -> Scale:
    low, high = min(losses), max(losses)
    if low > 0 and high / low > LOG_SCALE_FROM_RATIO:
        return log_scale(low / 1.15, high * 1.15)
    return linear_scale(min(0.0, low), high)


def _thinned(points: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """At most `MAX_CURVE_POINTS` points, each the mean of its neighbours, so that a long run stays a small file."""
    size = math.ceil(len(points) / MAX_CURVE_POINTS) or 1
    groups = (points[start : start + size] for start in range(0, len(points), size))
    return [(group[-1][0], sum(loss for _, loss in group) / len(group)) for group in groups]


def _from_to(points: Sequence[tuple[int, float]]) -> str:
    return f"from {significant(points[0][1])} to {significant(points[-1][1])}" if points else "not recorded"


def curve(points: Sequence[tuple[float, float]], scale_x: Scale, scale_y: Scale, kind: str) -> Markup:
    """A polyline in a box of its own that is stretched over the field; its stroke is not stretched."""
    places = " ".join(f"{scale_x.position(step):g},{100 - scale_y.position(loss):g}" for step, loss in points)
    return Markup(
        '<svg width="100%" height="100%" viewBox="0 0 100 100" preserveAspectRatio="none" overflow="visible">'
        '<polyline class="{kind}" points="{places}" vector-effect="non-scaling-stroke"/></svg>'
    ).format(kind=kind, places=places)


def dot(point: tuple[float, float], scale_x: Scale, scale_y: Scale, radius: int, kind: str) -> Markup:
    """A dot or ring whose radius is in pixels."""
    return Markup('<circle class="{kind}" cx="{x}%" cy="{y}%" r="{radius}"/>').format(
        kind=kind, x=scale_x.position(point[0]), y=round(100 - scale_y.position(point[1]), 3), radius=radius
    )


def side_axis(scale: Scale) -> Markup:
    """Tick labels along the side of a plot."""
    labels = Markup("").join(
        Markup('<text class="end" x="100%" y="{y}%" dy="4">{text}</text>').format(
            y=round(100 - scale.position(tick), 3), text=_tick_text(tick)
        )
        for tick in scale.ticks
    )
    return Markup(
        '<svg class="side" width="100%" height="{height}" aria-hidden="true" focusable="false">{labels}</svg>'
    ).format(height=PLOT_HEIGHT, labels=labels)


def horizontal_grid(scale: Scale) -> Markup:
    """A line for each tick of a plot's side."""
    return Markup("").join(
        Markup('<line class="grid" x1="0" x2="100%" y1="{y}%" y2="{y}%"/>').format(
            y=round(100 - scale.position(tick), 3)
        )
        for tick in scale.ticks
    )


def histogram_charts(histogram: LengthHistogram, *, titles: Mapping[str, str], accented: str | None) -> Markup:
    """One small histogram per contender on common axes, with the wanted answers as an outline behind each."""
    wanted = histogram.counts_by_series.get("wanted")
    highest = max((number for counts in histogram.counts_by_series.values() for number in counts), default=0)
    charts = Markup("").join(
        Markup('<div class="{kind}">{chart}</div>').format(
            kind="accented" if name == accented else "plain",
            chart=_histogram(
                histogram.bin_edges, counts, wanted=wanted, highest=max(1, highest), title=titles.get(name, name)
            ),
        )
        for name, counts in histogram.counts_by_series.items()
        if name != "wanted"
    )
    return Markup('<div class="histograms">{}</div>').format(charts)


def _histogram(
    edges: Sequence[int], counts: Sequence[int], *, wanted: Sequence[int] | None, highest: int, title: str
) -> Markup:
    width = 100 / max(1, len(counts))
    bars = Markup("").join(
        Markup('<rect class="bar" x="{x}%" y="{y}%" width="{w}%" height="{h}%"/>').format(
            x=round(i * width + 0.08 * width, 3),
            y=round(100 - 100 * number / highest, 3),
            w=round(0.84 * width, 3),
            h=round(100 * number / highest, 3),
        )
        for i, number in enumerate(counts)
    )
    shown = range(0, len(edges), max(1, math.ceil(len(edges) / 7)))
    scale = Scale(low=0, high=max(1, len(edges) - 1), ticks=())
    ticks = Markup("").join(
        Markup('<text class="middle" x="{x}%" y="14">{text}</text>').format(x=scale.position(i), text=count(edges[i]))
        for i in shown
    )
    total = sum(counts)
    spoken = ", ".join(
        f"{low} to {high} words: {number}"
        for (low, high), number in zip(pairwise(edges), counts, strict=True)
        if number
    )
    return Markup(
        '<figure class="chart histogram" role="img" aria-label="{title}: {total} answers by length. {spoken}">'
        '<figcaption>{title}</figcaption><svg class="field" width="100%" height="{height}" aria-hidden="true" '
        'focusable="false">{bars}{outline}<line class="base" x1="0" x2="100%" y1="100%" y2="100%"/></svg>'
        '<svg class="axis" width="100%" height="20" aria-hidden="true" focusable="false">{ticks}</svg></figure>'
    ).format(
        title=title,
        total=count(total),
        spoken=spoken,
        height=HISTOGRAM_HEIGHT,
        bars=bars,
        outline=_outline(wanted, highest) if wanted else "",
        ticks=ticks,
    )


def _outline(counts: Sequence[int], highest: int) -> Markup:
    """The silhouette of a histogram as a stepped line."""
    width = 100 / len(counts)
    places = ["0,100"]
    for i, number in enumerate(counts):
        height = round(100 - 100 * number / highest, 3)
        places += [f"{i * width:g},{height:g}", f"{(i + 1) * width:g},{height:g}"]
    return Markup(
        '<svg width="100%" height="100%" viewBox="0 0 100 100" preserveAspectRatio="none" overflow="visible">'
        '<polyline class="outline" points="{places} 100,100" vector-effect="non-scaling-stroke"/></svg>'
    ).format(places=" ".join(places))
