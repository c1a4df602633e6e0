"""How a challenge went, as an SVG: the difference and its interval after each outcome, and the bounds that decide."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from fettle.releases.challenge import Challenge, ChallengeDecision, ChallengeKind, Look

_WIDTH, _HEIGHT = 640, 240
_LEFT, _RIGHT, _TOP = 56, 150, 48
_MOST_POINTS = 400
_STEPS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
_MOST_TICKS = 7
_LEAST_GAP = 14
"""Between two labels, so that they can be read."""
_COLOURS = {
    ChallengeDecision.PROMOTE: "#1b7f4d",
    ChallengeDecision.STOP: "#b3261e",
    ChallengeDecision.GIVE_UP: "#777777",
    ChallengeDecision.GO_ON: "#2a5caa",
}
_WORDS = {
    ChallengeDecision.PROMOTE: "better",
    ChallengeDecision.STOP: "stopped: worse",
    ChallengeDecision.GIVE_UP: "given up",
    ChallengeDecision.GO_ON: "not decided",
}


def challenge_chart(challenge: Challenge, incumbent: int, looks: Sequence[tuple[int, Look]]) -> str:
    """The chart of a challenge.

    Args:
        challenge: What was agreed.
        incumbent: The number of the release that was in force.
        looks: With the number of outcomes that there were, in their order.
    """
    name, number = challenge.name, challenge.challenger
    title = f"{name}@{number} against {name}@{incumbent} ({challenge.kind}, share {challenge.share:g})"
    drawn = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_TOP + _HEIGHT + 48}" font-family="sans-serif" '
        f'font-size="12" role="img" aria-label="{escape(title)}: difference over outcomes">',
        f'<rect width="{_WIDTH}" height="{_TOP + _HEIGHT + 48}" fill="#ffffff"/>',
        f'<text x="{_LEFT}" y="20" font-size="15">{escape(title)}</text>',
        f'<text x="{_LEFT}" y="38">mean score of the challenger minus the incumbent, with the interval over all looks '
        f"({100 * challenge.level:g} %)</text>",
    ]
    if not looks:
        drawn.append(f'<text x="{_LEFT}" y="{_TOP + _HEIGHT / 2}">no outcome yet</text>')
        return "\n".join([*drawn, "</svg>\n"])
    axes = _Axes(challenge, looks)
    return "\n".join([*drawn, *axes.grid(), *axes.band(), *axes.labels(), "</svg>\n"])


class _Axes:
    """Where outcomes and differences lie on the drawing."""

    def __init__(self, challenge: Challenge, looks: Sequence[tuple[int, Look]]) -> None:
        self._challenge, self._last = challenge, looks[-1]
        step = max(1, len(looks) // _MOST_POINTS)
        self._looks = [*looks[:-1:step], looks[-1]]
        self._most = looks[-1][0]
        late = [look.difference for number, look in self._looks if number * 4 >= self._most]
        values = [0.0, challenge.better_by, -challenge.worse_by]
        values += [value for one in late for value in (one.low, one.high)]
        self._low, self._high = max(-1.0, min(values)), min(1.0, max(values))

    def x(self, num_outcomes: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * num_outcomes / self._most

    def y(self, difference: float) -> float:
        share = (min(max(difference, self._low), self._high) - self._low) / ((self._high - self._low) or 1.0)
        return _TOP + _HEIGHT * (1 - share)

    def grid(self) -> list[str]:
        """Both axes with their numbers."""
        bottom, unit = _TOP + _HEIGHT, "pairs" if self._challenge.kind is ChallengeKind.SHADOW else "outcomes"
        lines = [f'<line x1="{_LEFT}" y1="{_TOP}" x2="{_LEFT}" y2="{bottom}" stroke="#999999"/>']
        step = next((one for one in _STEPS if (self._high - self._low) / one < _MOST_TICKS), _STEPS[-1])
        for place in range(math.ceil(self._low / step), math.floor(self._high / step) + 1):
            at = self.y(place * step)
            lines.append(f'<text x="{_LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{place * step:+.2f}</text>')
        for share in (0.0, 0.5, 1.0):
            number = round(self._most * share)
            lines.append(f'<text x="{self.x(number):.1f}" y="{bottom + 18}" text-anchor="middle">{number}</text>')
        middle = (_LEFT + _WIDTH - _RIGHT) / 2
        lines.append(f'<text x="{middle:.1f}" y="{bottom + 38}" text-anchor="middle">{unit}</text>')
        return lines

    def band(self) -> list[str]:
        """The interval, the estimate, and what came of it."""
        number, look = self._last
        colour = _COLOURS[look.decision]
        above = [f"{self.x(at):.1f},{self.y(one.difference.high):.1f}" for at, one in self._looks]
        below = [f"{self.x(at):.1f},{self.y(one.difference.low):.1f}" for at, one in reversed(self._looks)]
        line = [f"{self.x(at):.1f},{self.y(one.difference.estimate):.1f}" for at, one in self._looks]
        found = look.difference
        told = f"{found.estimate:+.3f} ({found.low:+.3f} to {found.high:+.3f}) after {number}"
        right = self.x(number)
        return [
            f'<polygon points="{" ".join([*above, *below])}" fill="{colour}" fill-opacity="0.18"/>',
            f'<polyline points="{" ".join(line)}" fill="none" stroke="{colour}" stroke-width="2"/>',
            f"<g><title>{escape(told)}</title>"
            f'<circle cx="{right:.1f}" cy="{self.y(found.estimate):.1f}" r="4" fill="{colour}"/></g>',
        ]

    def labels(self) -> list[str]:
        """What came of it, and lines where the arms are equal and where it is decided, each with its words at the right."""
        better, worse = self._challenge.better_by, -self._challenge.worse_by
        told = {0.0: "equal"}
        if worse:
            told[worse] = f"tolerated: {worse:+.2g}"
        if better:
            told[better] = f"asked for: {better:+.2g}"
        look, right = self._last[1], _WIDTH - _RIGHT
        lines = [
            f'<line x1="{_LEFT}" y1="{self.y(value):.1f}" x2="{right}" y2="{self.y(value):.1f}" stroke="#333333" '
            f'stroke-dasharray="4 3"/>'
            for value in told
        ]
        words = [(self.y(value), text, 'fill="#333333"') for value, text in told.items()]
        bold = f'fill="{_COLOURS[look.decision]}" font-weight="bold"'
        words.append((self.y(look.difference.estimate), _WORDS[look.decision], bold))
        at = -math.inf
        for wanted, text, style in sorted(words):
            at = max(wanted, at + _LEAST_GAP)
            lines.append(f'<text x="{right + 10}" y="{at + 4:.1f}" {style}>{escape(text)}</text>')
        return lines
