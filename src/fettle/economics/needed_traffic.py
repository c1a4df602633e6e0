"""How many requests a day it takes until something pays, in closed form between the numbers at which a machine is added."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

MOST_REQUESTS_PER_DAY = 10_000_000.0
"""Beyond this nobody looks."""
_MOST_MACHINES = 100_000


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
    """The smallest number of requests a day with which a day gains at least `wanted_per_day`; None: no number does.

    A day of q requests gains `gain_per_request` q + `gain_per_day` + the sum of sign x cost x max(1, ceil(q / capacity)) over what
    is hosted. That is a line between the numbers at which a machine is added: the first stretch that reaches the goal has it at its
    beginning, or where the line crosses it.

    Args:
        gain_per_request: Of what is paid by the request.
        gain_per_day: Of what is paid by the day, whatever is asked.
        hosted: What is paid by the machine.
        wanted_per_day: The goal.

    >>> one = HostedShare(sign=-1, cost_per_machine_day=24.0, requests_per_machine_day=1000.0)
    >>> smallest_traffic(gain_per_request=0.04, gain_per_day=0.0, hosted=(one,), wanted_per_day=0.0)
    600.0
    """
    edges = np.unique(np.concatenate([[0.0, MOST_REQUESTS_PER_DAY], *map(_edges, hosted)]))
    starts, ends = edges[:-1], edges[1:]
    middles = (starts + ends) / 2
    fixed = np.full_like(middles, gain_per_day - wanted_per_day)
    for one in hosted:
        fixed += one.sign * one.cost_per_machine_day * np.maximum(1.0, np.ceil(middles / one.requests_per_machine_day))
    at_start, at_end = fixed + gain_per_request * starts, fixed + gain_per_request * ends
    reached = np.flatnonzero(np.maximum(at_start, at_end) >= 0)
    if not len(reached):
        return None
    first = reached[0]
    if at_start[first] >= 0:
        return float(starts[first])
    return float(-fixed[first] / gain_per_request)


def _edges(one: HostedShare) -> np.ndarray:
    """The numbers of requests at which another machine is needed."""
    if not np.isfinite(one.requests_per_machine_day):
        return np.empty(0)
    count = min(_MOST_MACHINES, int(MOST_REQUESTS_PER_DAY / one.requests_per_machine_day))
    return one.requests_per_machine_day * np.arange(1, count + 1)
