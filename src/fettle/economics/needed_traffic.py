"""From how many requests a day on something pays, in closed form between the numbers at which a machine is added."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

MOST_REQUESTS_PER_DAY = 10_000_000.0
"""Beyond this nobody looks."""
_MOST_MACHINES = 100_000
_ROUNDING = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class HostedShare:
    """Machines that are paid for by the day, in a balance."""

    sign: float
    """-1 where they are one's own, +1 where they are saved."""
    cost_per_machine_day: float
    requests_per_machine_day: float
    """So many a day one machine can take; infinite: any number."""


def smallest_traffic(
    *, gain_per_request: float, gain_per_day: float, hosted: tuple[HostedShare, ...], wanted_per_day: float
) -> float | None:
    """The smallest number of requests a day from which on every day gains at least `wanted_per_day`; None: from none.

    A day of q requests gains `gain_per_request` q + `gain_per_day` + the sum of sign x cost x max(1, ceil(q / capacity)) over what
    is hosted. That is a line between the numbers at which a machine is added: after the last stretch that falls short of the goal
    it is reached for good. A smaller number may reach it too, where the next machine takes it away again.

    Args:
        gain_per_request: Of what is paid by the request.
        gain_per_day: Of what is paid by the day, whatever is asked.
        hosted: What is paid by the machine.
        wanted_per_day: The goal.

    >>> one = HostedShare(sign=-1, cost_per_machine_day=24.0, requests_per_machine_day=1000.0)
    >>> smallest_traffic(gain_per_request=0.04, gain_per_day=0.0, hosted=(one,), wanted_per_day=0.0)
    1200.0
    """
    most = min([MOST_REQUESTS_PER_DAY, *(_MOST_MACHINES * one.requests_per_machine_day for one in hosted)])
    edges = np.unique(np.concatenate([[0.0, most], *(_edges(one, most) for one in hosted)]))
    starts, ends = edges[:-1], edges[1:]
    middles = (starts + ends) / 2
    fixed = np.full_like(middles, gain_per_day - wanted_per_day)
    for one in hosted:
        fixed += one.sign * one.cost_per_machine_day * np.maximum(1.0, np.ceil(middles / one.requests_per_machine_day))
    at_start, at_end = fixed + gain_per_request * starts, fixed + gain_per_request * ends
    slack = _ROUNDING * (np.abs(fixed) + np.abs(gain_per_request) * ends)
    short = np.flatnonzero(np.minimum(at_start, at_end) < -slack)
    if not len(short):
        return 0.0
    last = short[-1]
    if at_end[last] >= -slack[last]:
        return float(-fixed[last] / gain_per_request)
    return float(ends[last]) if last + 1 < len(ends) else None


def _edges(one: HostedShare, most: float) -> np.ndarray:
    """The numbers of requests at which another machine is needed."""
    if not np.isfinite(one.requests_per_machine_day):
        return np.empty(0)
    return one.requests_per_machine_day * np.arange(1, int(most / one.requests_per_machine_day) + 1)
