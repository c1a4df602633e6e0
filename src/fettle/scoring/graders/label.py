"""Graders for answers that are one label of a closed set."""

from __future__ import annotations

from dataclasses import dataclass

from fettle.records import Answer, Example, Score
from fettle.scoring.grader import scored, unscorable, unscored
from fettle.scoring.label_reader import LabelReader


@dataclass(frozen=True, slots=True, kw_only=True)
class ExactLabel:
    """1 when the answer is the wanted label, 0 otherwise; see `LabelReader` for what is overlooked.

    A label inside a sentence (`Label: refund`) is wrong: a program that reads the answer would not find it.
    """

    reader: LabelReader
    name: str = "exact_label"
    title: str = "Exact label"
    is_binary: bool = True

    def score(self, example: Example, answer: Answer) -> Score:
        """1 or 0; unscored only where no grader can judge."""
        if (result := unscorable(example, answer)) is not None:
            return result
        return scored(example, self.reader.matches(example.answer, answer.text))


@dataclass(frozen=True, slots=True, kw_only=True)
class LikeliestLabel:
    """1 when the label with the highest likelihood is the wanted one: what the contender knows, whatever it wrote.

    Equal likelihoods are settled by the order of the labels, so that the result does not depend on the engine's.
    """

    reader: LabelReader
    name: str = "likeliest_label"
    title: str = "Likeliest label"
    is_binary: bool = True

    def score(self, example: Example, answer: Answer) -> Score:
        """1 or 0; unscored where the engine gives no likelihoods."""
        if (result := unscorable(example, answer)) is not None:
            return result
        if not answer.choice_log_likelihoods:
            return unscored(example, "the engine gave no label likelihoods")
        likelihoods = answer.choice_log_likelihoods
        likeliest = max(sorted(likelihoods), key=lambda label: likelihoods[label])
        return scored(example, self.reader.matches(example.answer, likeliest))
