"""Points in a plane, joined in their order: what is gained against what it takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup

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

_LABEL_SHIFT, _WHISKER_SHIFT = 14, 6
"""Pixels from a point's middle, or from the end of its interval, up to its label."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlotPoint:
    """One point, in the units of the axes."""

    x: float
    y: float
    label: str
    """Empty: none is drawn, nor read out."""
    low: float | None = None
    """Bounds of `y`; None: none are drawn."""
    high: float | None = None
    anchor: Literal["start", "middle", "end"] = "middle"
    """Which part of the label stands above the point."""
    is_accented: bool = False
    is_expected: bool = False
    """Nobody has measured it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """What an axis measures."""

    label: str
    """With its unit."""
    limit: float | None = None
    """A value to keep on the axis and to mark; None: there is none."""
    from_zero: bool = False
    """Zero is kept on the axis."""


def point_plot(points: Sequence[PlotPoint], *, across: Axis, up: Axis) -> Markup:
    """Dots joined by a line, each with its label and, where it has one, its interval.

    Returns an empty text where there are no points.
    """
    if not points:
        return Markup("")
    scale_x = _scale([point.x for point in points], across)
    scale_y = _scale([edge for point in points for edge in (point.low, point.y, point.high) if edge is not None], up)
    spoken = "; ".join(f"{point.label}: {point.x:.4g}, {point.y:.4g}" for point in points if point.label)
    return Markup(
        '<div class="chart plot" role="img" aria-label="{up} against {across}. {spoken}">'
        '<span class="axis-label top">{up}</span>{side}'
        '<svg class="field" width="100%" height="{height}" aria-hidden="true" focusable="false">'
        "{grid}{limit}{level}{line}{whiskers}{dots}{labels}</svg>"
        '{axis}<span class="axis-label bottom">{across}</span></div>'
    ).format(
        up=up.label,
        across=across.label,
        spoken=spoken,
        side=side_axis(scale_y),
        height=PLOT_HEIGHT,
        grid=horizontal_grid(scale_y),
        limit="" if across.limit is None else _upright(across.limit, scale_x),
        level="" if up.limit is None else _level(up.limit, scale_y),
        line=curve([(point.x, point.y) for point in points], scale_x, scale_y, "curve valid"),
        whiskers=Markup("").join(_whisker(point, scale_x, scale_y) for point in points),
        dots=Markup("").join(_mark(point, scale_x, scale_y) for point in points),
        labels=Markup("").join(_label(point, scale_x, scale_y) for point in points if point.label),
        axis=bottom_axis(scale_x.ticks, scale_x),
    )


def _scale(values: Sequence[float], axis: Axis) -> Scale:
    kept = [*values, *([0.0] if axis.from_zero else []), *([] if axis.limit is None else [axis.limit])]
    return linear_scale(min(kept), max(kept))


def _mark(point: PlotPoint, scale_x: Scale, scale_y: Scale) -> Markup:
    place = (point.x, point.y)
    ring = dot(place, scale_x, scale_y, 9, "ring") if point.is_accented else Markup("")
    return dot(place, scale_x, scale_y, 4, "dot" if point.is_expected else "dot solid") + ring


def _label(point: PlotPoint, scale_x: Scale, scale_y: Scale) -> Markup:
    return Markup('<text class="{anchor}" x="{x}%" y="{y}%" dy="-{shift}">{text}</text>').format(
        anchor=point.anchor,
        x=scale_x.position(point.x),
        y=round(100 - scale_y.position(point.y if point.high is None else point.high), 3),
        shift=_LABEL_SHIFT if point.high is None else _WHISKER_SHIFT,
        text=point.label,
    )


def _whisker(point: PlotPoint, scale_x: Scale, scale_y: Scale) -> Markup:
    if point.low is None or point.high is None:
        return Markup("")
    return Markup('<line class="whisker" x1="{x}%" x2="{x}%" y1="{high}%" y2="{low}%"/>').format(
        x=scale_x.position(point.x),
        high=round(100 - scale_y.position(point.high), 3),
        low=round(100 - scale_y.position(point.low), 3),
    )


def _upright(value: float, scale: Scale) -> Markup:
    return Markup('<line class="limit" x1="{x}%" x2="{x}%" y1="0" y2="100%"/>').format(x=scale.position(value))


def _level(value: float, scale: Scale) -> Markup:
    return Markup('<line class="limit" x1="0" x2="100%" y1="{y}%" y2="{y}%"/>').format(
        y=round(100 - scale.position(value), 3)
    )
