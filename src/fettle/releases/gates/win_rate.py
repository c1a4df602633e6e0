"""Does it win against the prompt-only baseline, and against the release in force? Paired on the same test examples."""

from __future__ import annotations

from collections.abc import Sequence

from fettle.records import Comparison
from fettle.releases.gates.gate import (
    Found,
    GateInputs,
    UnreadableRelease,
    clusters_of,
    does_not_apply,
    held_against,
    not_measured,
    percents,
    row_key,
)
from fettle.statistics.compare import ScoredArm, compare
from fettle.statistics.multiplicity import level_at_look

PROMPT = "prompt"


def against_prompt(inputs: GateInputs) -> Found:
    """Win rate against the contender that is only prompted."""
    if inputs.contender == PROMPT:
        return does_not_apply("it is the prompt-only baseline itself")
    if all(score is None for score in inputs.scores(PROMPT)):
        return not_measured("the study has no scored answers of the prompt-only contender")
    scores = [(True, score) for score in inputs.scores(PROMPT)]
    return _held(inputs, scores, "the prompt alone", inputs.settings.win_rate_against_prompt.lowest_win_rate)


def against_current(inputs: GateInputs) -> Found:
    """Win rate against the release in force, on the test rows of its study that this study has as well."""
    current = inputs.current
    if current is None:
        return does_not_apply("no release is in force that it could lose against")
    if isinstance(current, UnreadableRelease):
        return not_measured(current.problem)
    if current.evidence.primary_metric != inputs.report.primary_metric:
        return not_measured(
            f"{current} was scored by {current.evidence.primary_metric}, this study by {inputs.report.primary_metric}"
        )
    scores = [
        (row_key(row) in current.evidence.scores, current.evidence.scores.get(row_key(row)))
        for row in inputs.report.rows
    ]
    bound = inputs.settings.win_rate_against_current.lowest_win_rate
    return _held(inputs, scores, str(current), bound)


def _held(inputs: GateInputs, others: Sequence[tuple[bool, float | None]], name: str, bound: float) -> Found:
    """Held against another side's scores, each with whether that side was asked at all.

    An answer that failed or could not be scored is taken at its worst, as else a contender would win by failing where it is weak.
    """
    pairs = [
        (ours, theirs) if was_asked else (None, None)
        for ours, (was_asked, theirs) in zip(inputs.scores(inputs.contender), others, strict=True)
    ]
    if all(ours is None or theirs is None for ours, theirs in pairs):
        return not_measured(f"no test example was scored both for it and for {name}")
    num_open = sum(was_asked and None in pair for pair, (was_asked, _) in zip(pairs, others, strict=True))
    found = _compared(inputs, pairs, [was_asked for was_asked, _ in others], name)
    at_worst = f", {num_open} that failed or could not be scored at their worst" if num_open else ""
    sentence = (
        f"wins {percents(found.win_rate)} of {found.num_pairs:,} test examples against {name}, ties as half "
        f"({found.num_wins} won, {found.num_ties} tied, {found.num_losses} lost{at_worst}); all of the interval must be above "
        f"{bound:.0%}"
    )
    return held_against(found.win_rate, bound, is_right=found.win_rate.low > bound, sentence=sentence)


def _compared(
    inputs: GateInputs, pairs: Sequence[tuple[float | None, float | None]], asked: Sequence[bool], name: str
) -> Comparison:
    is_binary = all(score in (0, 1) for pair in pairs for score in pair if score is not None)
    ours = tuple((score or 0.0) if is_in else None for (score, _), is_in in zip(pairs, asked, strict=True))
    theirs = tuple(
        (1.0 if score is None else score) if is_in else None for (_, score), is_in in zip(pairs, asked, strict=True)
    )
    return compare(
        ScoredArm(name=inputs.contender, scores=ours, is_binary=is_binary),
        ScoredArm(name=name, scores=theirs, is_binary=is_binary),
        clusters_of(inputs.report),
        is_primary=True,
        seed=inputs.report.provenance.seed,
        level=level_at_look(inputs.report.provenance.test_look_number),
    )
