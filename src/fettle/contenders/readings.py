"""Three ways to read a label out of one pass of a language model over all labels; which one counts is chosen on validation.

Greedy decoding follows the most likely token at each step and can be led astray by a common first token. Likelihood takes the
label that is most likely as a whole. Calibrated likelihood first subtracts each label's mean log-likelihood over the validation
prompts, which removes a model's liking for some labels whatever it is asked; it needs no labels.

Source: Zhou et al. 2024, "Batch Calibration", eq. 3 (there over the test batch; here over validation, so that an answer does not
depend on what else is asked).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from fettle.records import Answer


class Reading(StrEnum):
    """How a label is read."""

    GREEDY = "greedy decoding"
    LIKELIHOOD = "label likelihood"
    CALIBRATED = "calibrated label likelihood"


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelReading:
    """A reading with what it needs."""

    kind: Reading
    mean_log_likelihoods: Mapping[str, float]
    """By label, over the validation prompts; read by CALIBRATED alone."""

    def read(self, answers: Sequence[Answer]) -> tuple[Answer, ...]:
        """The answers with the label that this reading takes; those without likelihoods stay as they are."""
        return tuple(self._read(answer) for answer in answers)

    def _read(self, answer: Answer) -> Answer:
        scores = answer.choice_log_likelihoods
        if scores is None or self.kind is Reading.GREEDY:
            return answer
        offsets = self.mean_log_likelihoods if self.kind is Reading.CALIBRATED else {}
        return replace(answer, text=max(scores, key=lambda label: scores[label] - offsets.get(label, 0.0)))


def readings(validation_answers: Sequence[Answer]) -> tuple[LabelReading, ...]:
    """The readings that are possible with these answers: greedy alone where an engine sees no likelihoods."""
    scored = [a.choice_log_likelihoods for a in validation_answers if a.choice_log_likelihoods is not None]
    if len(scored) < len(validation_answers) or not scored:
        return (LabelReading(kind=Reading.GREEDY, mean_log_likelihoods={}),)
    means = {label: sum(scores[label] for scores in scored) / len(scored) for label in scored[0]}
    return tuple(LabelReading(kind=kind, mean_log_likelihoods=means) for kind in Reading)
