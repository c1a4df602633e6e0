"""The figures of a name's gates from release to release, as one SVG: an interval each, and the bound it was held against."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

from fettle.releases.records import GateOutcome, GateResult, Release

_WIDTH, _LEFT, _TOP = 640, 48, 34
_HEIGHT = 120
"""Of the drawing of one gate."""
_GAP = 56
_COLOURS = {
    GateOutcome.PASSED: "#1b7f4d",
    GateOutcome.FAILED: "#b3261e",
    GateOutcome.NOT_MEASURED: "#777777",
    GateOutcome.DOES_NOT_APPLY: "#777777",
}


def history_chart(name: str, releases: Sequence[Release], in_force: int | None) -> str:
    """The chart of a name's releases.

    Args:
        name: Of all of them.
        releases: In the order of their numbers.
        in_force: The number of the one that answers; None: none does.
    """
    gates = list(dict.fromkeys(gate.name for release in releases for gate in release.evidence.gates if gate.measured))
    height = _TOP + len(gates) * (_HEIGHT + _GAP) + 10
    told = f"in force: {name}@{in_force}" if in_force else "none is in force"
    drawn = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif" font-size="12" '
        f'role="img" aria-label="{escape(name)}: gates from release to release">',
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="{_LEFT}" y="20" font-size="15">Releases of {escape(name)} ({escape(told)})</text>',
    ]
    for place, gate in enumerate(gates):
        drawn += _panel(gate, releases, _TOP + place * (_HEIGHT + _GAP) + 24)
    return "\n".join([*drawn, "</svg>\n"])


def _panel(name: str, releases: Sequence[Release], top: float) -> list[str]:
    found = [next((gate for gate in one.evidence.gates if gate.name == name), None) for one in releases]
    measured = [gate for gate in found if gate is not None and gate.measured is not None]
    values = [value for gate in measured if gate.measured for value in (gate.measured.low, gate.measured.high)]
    values += [gate.bound for gate in measured if gate.bound is not None]
    low, high = min(values), max(values)
    span = (high - low) or 1.0

    def y(value: float) -> float:
        return top + _HEIGHT - (min(max(value, low), high) - low) / span * _HEIGHT

    step = (_WIDTH - 2 * _LEFT) / max(1, len(releases))
    lines = [
        f'<text x="{_LEFT}" y="{top - 8:.1f}" font-weight="bold">{escape(name.replace("_", " "))}</text>',
        f'<text x="{_LEFT - 6}" y="{top + 4:.1f}" text-anchor="end">{high:.3g}</text>',
        f'<text x="{_LEFT - 6}" y="{top + _HEIGHT:.1f}" text-anchor="end">{low:.3g}</text>',
        f'<line x1="{_LEFT}" y1="{top}" x2="{_LEFT}" y2="{top + _HEIGHT}" stroke="#999999"/>',
    ]
    for place, (release, gate) in enumerate(zip(releases, found, strict=True)):
        x = _LEFT + step * (place + 0.5)
        lines.append(f'<text x="{x:.1f}" y="{top + _HEIGHT + 16:.1f}" text-anchor="middle">@{release.number}</text>')
        lines += [] if gate is None else _mark(gate, x, step, y)
    return lines


def _mark(gate: GateResult, x: float, step: float, y: Callable[[float], float]) -> list[str]:
    if gate.measured is None:
        return []
    colour, found = _COLOURS[gate.outcome], gate.measured
    marks = [
        f"<g><title>{escape(gate.sentence)}</title>"
        f'<line x1="{x:.1f}" y1="{y(found.low):.1f}" x2="{x:.1f}" y2="{y(found.high):.1f}" stroke="{colour}" stroke-width="2"/>'
        f'<circle cx="{x:.1f}" cy="{y(found.estimate):.1f}" r="4" fill="{colour}"/></g>'
    ]
    if gate.bound is not None:
        left, right = x - 0.35 * step, x + 0.35 * step
        marks.append(
            f'<line x1="{left:.1f}" y1="{y(gate.bound):.1f}" x2="{right:.1f}" y2="{y(gate.bound):.1f}" stroke="#333333" '
            f'stroke-dasharray="4 3"/>'
        )
    return marks
