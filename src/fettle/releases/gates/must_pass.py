"""The user's own examples that every release must answer rightly."""

from __future__ import annotations

from fettle.releases.gates.gate import Found, GateInputs, does_not_apply, held_against, not_measured, percents
from fettle.scoring.grader import score_answers
from fettle.statistics.intervals import wilson

_MOST_NAMED = 3


def must_pass(inputs: GateInputs) -> Found:
    """The share of them that the serving engine answers with a score that passes."""
    wanted, settings = inputs.must_pass, inputs.settings.must_pass
    if wanted is None:
        return does_not_apply("no examples were given (must_pass.file, or --must-pass)")
    if not inputs.must_pass_answers:
        return not_measured(f"the serving engine has not answered: {inputs.not_answered}")
    scores = score_answers(wanted.grader, wanted.examples, inputs.must_pass_answers)
    passes = [score.value is not None and score.value >= settings.lowest_score for score in scores]
    wrong = [
        f"{example.source}: {answer.error or answer.text[:60]!r}"
        for example, answer, is_right in zip(wanted.examples, inputs.must_pass_answers, passes, strict=True)
        if not is_right
    ]
    share = wilson(sum(passes), len(passes))
    more = f" and {len(wrong) - _MOST_NAMED} more" if len(wrong) > _MOST_NAMED else ""
    named = f": {'; '.join(wrong[:_MOST_NAMED])}{more}" if wrong else ""
    sentence = (
        f"{sum(passes)} of {len(passes)} examples that must pass do ({wanted.grader.title}), {percents(share)}{named}; "
        f"{settings.lowest_share:.0%} of them must"
    )
    return held_against(
        share,
        settings.lowest_share,
        is_right=sum(passes) >= settings.lowest_share * len(passes),
        sentence=sentence,
    )
