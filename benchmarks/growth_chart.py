"""A chart of how seconds grow: one panel a sweep, both axes logarithmic, as one SVG file that stands alone.

On such axes what grows in proportion is a line at 45 degrees, which is drawn grey beside the first curve.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from fettle.study.charts import Scale, log_scale

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 380, 250, 56, 28, 44, 46
COLOURS = ("#1f6f8b", "#c8553d")
STYLE = Markup(
    "text{font:12px sans-serif;fill:#333}.title{font-weight:600}.grid{stroke:#ddd}.even{stroke:#aaa;stroke-dasharray:4 4}"
    ".curve{fill:none;stroke-width:2}"
)


@dataclass(frozen=True, slots=True)
class Curve:
    """One engine's medians."""

    name: str
    points: tuple[tuple[float, float], ...]
    """What grows, and seconds."""


@dataclass(frozen=True, slots=True)
class Panel:
    """One sweep."""

    title: str
    axis: str
    """What grows."""
    curves: tuple[Curve, ...]


def drawn(panels: Sequence[Panel]) -> str:
    """The SVG, two panels side by side."""
    num_lines = -(-len(panels) // 2)
    body = Markup("").join(
        Markup('<g transform="translate({},{})">{}</g>').format(number % 2 * WIDTH, number // 2 * HEIGHT, _panel(panel))
        for number, panel in enumerate(panels)
    )
    return str(
        Markup(
            '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {0} {1}" width="{0}" height="{1}">'
            '<style>{2}</style><rect width="{0}" height="{1}" fill="#fff"/>{3}</svg>\n'
        ).format(2 * WIDTH, num_lines * HEIGHT, STYLE, body)
    )


def _panel(panel: Panel) -> Markup:
    values = [value for curve in panel.curves for value, _ in curve.points]
    seconds = [second for curve in panel.curves for _, second in curve.points]
    scale_x = log_scale(min(values), max(*values, 1.01 * min(values)))
    scale_y = log_scale(min(seconds) / 1.3, max(seconds) * 1.3)
    parts = [Markup('<text class="title" x="{}" y="18">{}, seconds</text>').format(LEFT, panel.title)]
    parts += [
        Markup(
            '<line class="grid" x1="{}" x2="{}" y1="{}" y2="{}"/><text x="{}" y="{}" text-anchor="end">{:g}</text>'
        ).format(LEFT, WIDTH - RIGHT, y := _y(scale_y, tick), y, LEFT - 6, y + 4, tick)
        for tick in scale_y.ticks
    ]
    parts += [
        Markup('<text x="{}" y="{}" text-anchor="middle">{:,}</text>').format(
            _x(scale_x, value), HEIGHT - BOTTOM + 18, value
        )
        for value in sorted(set(values))
    ]
    parts.append(
        Markup('<text x="{}" y="{}" text-anchor="middle">{}</text>').format(
            (LEFT + WIDTH - RIGHT) / 2, HEIGHT - BOTTOM + 36, panel.axis
        )
    )
    parts.append(_even_growth(panel.curves[0], scale_x, scale_y))
    for number, curve in enumerate(panel.curves):
        parts.append(_curve(curve, scale_x, scale_y, COLOURS[number]))
        parts.append(
            Markup('<text x="{}" y="36" style="fill:{}">{}</text>').format(
                LEFT + 100 * number, COLOURS[number], curve.name
            )
        )
    return Markup("").join(parts)


def _even_growth(curve: Curve, scale_x: Scale, scale_y: Scale) -> Markup:
    """What the first point would grow to in proportion, as far as the panel goes."""
    first, seconds = curve.points[0]
    last = min(scale_x.high, first * scale_y.high / seconds)
    return Markup('<line class="even" x1="{}" y1="{}" x2="{}" y2="{}"/>').format(
        _x(scale_x, first), _y(scale_y, seconds), _x(scale_x, last), _y(scale_y, seconds * last / first)
    )


def _curve(curve: Curve, scale_x: Scale, scale_y: Scale, colour: str) -> Markup:
    places = [(_x(scale_x, value), _y(scale_y, seconds)) for value, seconds in curve.points]
    line = Markup('<polyline class="curve" stroke="{}" points="{}"/>').format(
        colour, " ".join(f"{x},{y}" for x, y in places)
    )
    dots = (
        Markup('<circle cx="{}" cy="{}" r="4" fill="{}"><title>{:g}: {:.3g} s</title></circle>').format(
            x, y, colour, value, seconds
        )
        for (x, y), (value, seconds) in zip(places, curve.points, strict=True)
    )
    return line + Markup("").join(dots)


def _x(scale: Scale, value: float) -> float:
    return round(LEFT + scale.position(value) / 100 * (WIDTH - RIGHT - LEFT), 1)


def _y(scale: Scale, seconds: float) -> float:
    return round(HEIGHT - BOTTOM - scale.position(seconds) / 100 * (HEIGHT - BOTTOM - TOP), 1)
