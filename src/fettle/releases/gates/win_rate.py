"""Does it win against the prompt-only baseline, and against the release in force? Paired on the same test examples."""

from __future__ import annotations

from fettle.errors import DataError
from fettle.records import Comparison
from fettle.releases.gates.gate import (
    Found,
    GateInputs,
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
    return _held(
        inputs, inputs.scores(PROMPT), "the prompt alone", inputs.settings.win_rate_against_prompt.lowest_win_rate
    )


def against_current(inputs: GateInputs) -> Found:
    """Win rate against the release in force, on the test rows of its study that this study has as well."""
    current = inputs.current
    if current is None:
        return does_not_apply("no release is in force that it could lose against")
    if current.evidence.primary_metric != inputs.report.primary_metric:
        return not_measured(
            f"{current} was scored by {current.evidence.primary_metric}, this study by {inputs.report.primary_metric}"
        )
    scores = tuple(current.evidence.scores.get(row_key(row)) for row in inputs.report.rows)
    bound = inputs.settings.win_rate_against_current.lowest_win_rate
    return _held(inputs, scores, str(current), bound)


def _held(inputs: GateInputs, others: tuple[float | None, ...], name: str, bound: float) -> Found:
    try:
        found = _compared(inputs, others, name)
    except DataError:
        return not_measured(f"no test example was scored both for it and for {name}")
    sentence = (
        f"wins {percents(found.win_rate)} of {found.num_pairs:,} test examples against {name}, ties as half "
        f"({found.num_wins} won, {found.num_ties} tied, {found.num_losses} lost); all of the interval must be above {bound:.0%}"
    )
    return held_against(found.win_rate, bound, is_right=found.win_rate.low > bound, sentence=sentence)


def _compared(inputs: GateInputs, others: tuple[float | None, ...], name: str) -> Comparison:
    ours = inputs.scores(inputs.contender)
    is_binary = all(score in (0, 1) for score in (*ours, *others) if score is not None)
    return compare(
        ScoredArm(name=inputs.contender, scores=ours, is_binary=is_binary),
        ScoredArm(name=name, scores=others, is_binary=is_binary),
        clusters_of(inputs.report),
        is_primary=True,
        seed=inputs.report.provenance.seed,
        level=level_at_look(inputs.report.provenance.test_look_number),
    )
