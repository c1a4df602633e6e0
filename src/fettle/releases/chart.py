"""The figures of a name's gates from release to release, as one SVG: an interval each, and the bound it was held against."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape

from fettle.releases.records import GateOutcome, GateResult, Release

_WIDTH, _LEFT, _RIGHT = 480, 60, 12
"""Narrow, so that it can be read on a telephone."""
_TOP = 66
_HEIGHT = 96
"""Of the drawing of one gate."""
_GAP = 62
_INSET = 8
"""Above the highest and below the lowest value of a gate."""
_LEAST_STEP = 30.0
"""Between two numbers of releases that are both written."""
_COLOURS = {
    GateOutcome.PASSED: "#1b7f4d",
    GateOutcome.FAILED: "#b3261e",
    GateOutcome.NOT_MEASURED: "#777777",
    GateOutcome.DOES_NOT_APPLY: "#777777",
}
_SHARES = (
    "win_rate_against_prompt",
    "win_rate_against_current",
    "parity",
    "json_validity",
    "personal_data",
    "must_pass",
)
_UNITS = {
    "forgetting": "points",
    "latency": "seconds, 95 of 100 requests",
    "cost_per_request": "in the currency of the study",
    "cost_per_correct_answer": "in the currency of the study",
}
_MUST_BE_BELOW = ("latency", "cost_per_request", "cost_per_correct_answer")
_OF_THE_DOT = {"personal_data": "the dot at most at the bound", "must_pass": "the dot at least at the bound"}
"""Gates that count, and do not look at the interval."""


def history_chart(name: str, releases: Sequence[Release], in_force: int | None) -> str:
    """The chart of a name's releases.

    Args:
        name: Of all of them.
        releases: In the order of their numbers.
        in_force: The number of the one that answers; None: none does.
    """
    newest_first = [gate for release in reversed(releases) for gate in release.evidence.gates]
    measured = {gate.name for gate in newest_first if gate.measured}
    gates = [gate for gate in dict.fromkeys(gate.name for gate in newest_first) if gate in measured]
    height = _TOP + len(gates) * (_HEIGHT + _GAP) + 10
    told = f"in force: {name}@{in_force}" if in_force else "none is in force"
    drawn = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif" font-size="12" '
        f'style="max-width:720px" role="img" aria-label="{escape(name)}: gates from release to release">',
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="{_RIGHT}" y="22" font-size="15">Releases of {escape(name)} ({escape(told)})</text>',
        *_legend(44),
    ]
    for place, gate in enumerate(gates):
        drawn += _panel(gate, releases, in_force, _TOP + place * (_HEIGHT + _GAP) + 28)
    return "\n".join([*drawn, "</svg>\n"])


def _legend(y: float) -> list[str]:
    passed, failed, open_ = (
        _COLOURS[one] for one in (GateOutcome.PASSED, GateOutcome.FAILED, GateOutcome.NOT_MEASURED)
    )
    return [
        f'<circle cx="{_RIGHT + 4}" cy="{y - 4}" r="4" fill="{passed}"/><text x="{_RIGHT + 14}" y="{y}">passed</text>',
        f'<circle cx="82" cy="{y - 4}" r="4" fill="{failed}"/><text x="92" y="{y}">failed</text>',
        f'<circle cx="146" cy="{y - 4}" r="3.5" fill="#ffffff" stroke="{open_}"/><text x="156" y="{y}">not measured</text>',
        f'<line x1="244" y1="{y - 4}" x2="268" y2="{y - 4}" stroke="#333333" stroke-dasharray="4 3"/>',
        f'<text x="274" y="{y}">bound</text>',
    ]


def _panel(name: str, releases: Sequence[Release], in_force: int | None, top: float) -> list[str]:
    found = [next((gate for gate in one.evidence.gates if gate.name == name), None) for one in releases]
    measured = [gate for gate in found if gate is not None and gate.measured is not None]
    values = [value for gate in measured if gate.measured for value in (gate.measured.low, gate.measured.high)]
    values += [gate.bound for gate in measured if gate.bound is not None]
    low, high = min(values), max(values)
    span = (high - low) or 1.0

    def y(value: float) -> float:
        return top + _HEIGHT - _INSET - (value - low) / span * (_HEIGHT - 2 * _INSET)

    step = (_WIDTH - _LEFT - _RIGHT) / max(1, len(releases))
    is_share = name in _SHARES
    unit = "%" if is_share else _UNITS.get(name, "")
    side = "below" if name in _MUST_BE_BELOW else "above"
    told = f"{unit}, {_OF_THE_DOT.get(name, f'the whole interval {side} the bound')}".removeprefix(", ")
    lines = [
        f'<text x="{_RIGHT}" y="{top - 9:.1f}"><tspan font-weight="bold">{escape(name.replace("_", " "))}</tspan>'
        f'<tspan fill="#555555" font-size="11"> {escape(told)}</tspan></text>',
        f'<line x1="{_LEFT}" y1="{top}" x2="{_LEFT}" y2="{top + _HEIGHT}" stroke="#999999"/>',
    ]
    for value in dict.fromkeys((low, high)):
        lines.append(
            f'<text x="{_LEFT - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{_figure(value, is_share=is_share)}</text>'
        )
    at = next((place for place, one in enumerate(releases) if one.number == in_force), None)
    stride = max(1, math.ceil(_LEAST_STEP / step))
    for place, (release, gate) in enumerate(zip(releases, found, strict=True)):
        x = _LEFT + step * (place + 0.5)
        answers = release.number == in_force
        if answers:
            lines.append(
                f'<rect x="{x - step / 2:.1f}" y="{top}" width="{step:.1f}" height="{_HEIGHT}" fill="#eef3fb"/>'
            )
        has_room = at is None or abs(place - at) * step >= _LEAST_STEP
        if answers or (has_room and (len(releases) - 1 - place) % stride == 0):
            weight = ' font-weight="bold"' if answers else ""
            lines.append(
                f'<text x="{x:.1f}" y="{top + _HEIGHT + 16}" text-anchor="middle"{weight}>@{release.number}</text>'
            )
        lines += [] if gate is None else _mark(gate, x, step, y, top + _HEIGHT - 5)
    return lines


def _mark(gate: GateResult, x: float, step: float, y: Callable[[float], float], bottom: float) -> list[str]:
    colour, found = _COLOURS[gate.outcome], gate.measured
    title = f"<title>{escape(gate.sentence)}</title>"
    if found is None:
        if gate.outcome is GateOutcome.DOES_NOT_APPLY:
            return []
        fill = colour if gate.outcome is GateOutcome.FAILED else "#ffffff"
        return [f'<circle cx="{x:.1f}" cy="{bottom:.1f}" r="3.5" fill="{fill}" stroke="{colour}">{title}</circle>']
    marks = []
    if gate.bound is not None:
        left, right = x - 0.35 * step, x + 0.35 * step
        marks.append(
            f'<line x1="{left:.1f}" y1="{y(gate.bound):.1f}" x2="{right:.1f}" y2="{y(gate.bound):.1f}" stroke="#333333" '
            f'stroke-dasharray="4 3"/>'
        )
    marks.append(
        f'<g>{title}<line x1="{x:.1f}" y1="{y(found.low):.1f}" x2="{x:.1f}" y2="{y(found.high):.1f}" stroke="{colour}" '
        f'stroke-width="2"/><circle cx="{x:.1f}" cy="{y(found.estimate):.1f}" r="4" fill="{colour}"/></g>'
    )
    return marks


def _figure(value: float, *, is_share: bool) -> str:
    """A number of an axis.

    >>> _figure(0.935, is_share=True), _figure(0.00042, is_share=False), _figure(1234.5, is_share=False)
    ('93.5', '0.00042', '1,234')
    """
    shown = 100 * value if is_share else value
    return f"{shown:,.0f}" if abs(shown) >= 1000 else f"{shown:.3g}"
