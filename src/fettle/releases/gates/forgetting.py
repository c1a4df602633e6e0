"""Has the tuned model kept what its base model could do?"""

from __future__ import annotations

from fettle.records import Interval
from fettle.releases.gates.gate import Found, GateInputs, does_not_apply, held_against, not_measured


def forgetting(inputs: GateInputs) -> Found:
    """The worse of the changes on the general suite and on the user's own examples, in points of the mean score."""
    if not inputs.released.kind.is_tuned:
        return does_not_apply("nothing was trained")
    found = inputs.report.forgetting
    if found is None:
        return not_measured("the study did not measure what was forgotten (--no-forgetting)")
    wanted = inputs.settings.forgetting.most_points_lost
    budget = found.budget_points if wanted is None else wanted
    changes = [found.general] if found.own is None else [found.general, found.own]
    worst = min(changes, key=lambda change: change.change.low)
    points = _in_points(worst.change)
    sentence = (
        f"{worst.title}: {points.estimate:+.1f} points ({points.low:+.1f} to {points.high:+.1f}) on {worst.num_items} "
        f"questions; at most {budget:g} may be lost, all of the interval counted"
    )
    return held_against(points, -budget, is_right=points.low > -budget, sentence=sentence)


def _in_points(change: Interval) -> Interval:
    low, estimate, high = 100 * change.low, 100 * change.estimate, 100 * change.high
    return Interval(estimate=estimate, low=low, high=high, level=change.level, method=change.method)
