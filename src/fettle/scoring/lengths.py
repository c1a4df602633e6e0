"""How long the answers are, beside how long they should be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from fettle.records import Answer, Example
from fettle.report_records import LengthHistogram
from fettle.scoring.grader import pair_answers, unscorable
from fettle.scoring.style_rules import Measure

_NUM_BINS = 15


def length_histogram(
    examples: Sequence[Example], answers_by_contender: Mapping[str, Sequence[Answer]]
) -> LengthHistogram:
    """Numbers of answers by length in words, for `wanted` and for every contender; failed answers are left out.

    The bins have one round width (1, 2, 5, 10, ... words), chosen so that about 15 of them hold 98 % of all answers; the last one
    reaches to the longest answer. A bin holds its lower edge and not its upper one.

    Raises:
        IntegrityError: A contender has not exactly one answer per example.
        ValueError: A contender is called `wanted`.

    >>> length_histogram([], {}).bin_edges
    (0, 1)
    """
    if "wanted" in answers_by_contender:
        raise ValueError("a contender may not be called 'wanted'")
    lengths = {"wanted": [Measure.WORDS.of(example.answer) for example in examples]}
    for contender, answers in answers_by_contender.items():
        pairs = pair_answers(examples, answers)
        lengths[contender] = [
            Measure.WORDS.of(answer.text) for example, answer in pairs if unscorable(example, answer) is None
        ]
    edges = _bin_edges([length for series in lengths.values() for length in series])
    counts = {name: np.histogram(series, bins=edges)[0].tolist() for name, series in lengths.items()}
    return LengthHistogram(
        bin_edges=tuple(edges), counts_by_series={name: tuple(series) for name, series in counts.items()}
    )


def _bin_edges(lengths: Sequence[int]) -> list[int]:
    if not lengths:
        return [0, 1]
    longest, usual = max(lengths), int(np.quantile(lengths, 0.98, method="higher"))
    width = _round_width(usual // _NUM_BINS + 1)
    edges = list(range(0, usual + width + 1, width))
    if longest >= edges[-1]:
        edges.append(longest)
    # numpy closes the last bin on both sides; one word more keeps every bin half open.
    return [*edges[:-1], max(edges[-1], longest + 1)]


def _round_width(at_least: int) -> int:
    """The smallest of 1, 2, 5, 10, 20, 50, ... that is no smaller.

    >>> [_round_width(width) for width in (1, 3, 6, 11, 200, 201)]
    [1, 5, 10, 20, 200, 500]
    """
    power = 1
    while True:
        for step in (1, 2, 5):
            if step * power >= at_least:
                return step * power
        power *= 10
