"""How far the small model's answer to a request can be trusted: a number for each answer, of which only the order counts.

Pure functions of answers. What needs the input's embedding is `foreseen.py`. An answer that failed is never to be trusted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from fettle.answering.choices import log_share
from fettle.records import Answer
from fettle.scoring.graders.text import chrf
from fettle.votes.poll import say_the_same

NEVER = -math.inf
"""The confidence of an answer that is no answer."""


class Measure(StrEnum):
    """Measures of confidence, the cheapest to serve first."""

    LABEL_MARGIN = "label_margin"
    """Log-likelihood of the label that was answered, above that of the next best, nats."""
    LABEL_PROBABILITY = "label_probability"
    """Likelihood of the label that was answered, over that of all labels, in [0, 1]."""
    TOKEN_LOG_PROBABILITY = "mean_token_log_probability"
    """Mean log-probability of the answer's tokens, nats."""
    FORESEEN = "foreseen"
    """Log-odds that the small model is right, foreseen from the embedding of the input."""
    SELF_CONSISTENCY = "self_consistency"
    """How far sampled answers say the same, in [0, 1]."""


TITLES = {
    Measure.LABEL_MARGIN: "margin to the next label",
    Measure.LABEL_PROBABILITY: "probability of the label",
    Measure.TOKEN_LOG_PROBABILITY: "mean log-probability of the tokens",
    Measure.FORESEEN: "foreseen from the input",
    Measure.SELF_CONSISTENCY: "agreement of sampled answers",
}


def label_margin(answer: Answer) -> float | None:
    """Log-likelihood of the answered label minus that of the best other one; below 0 where it was read in another way.

    None where the engine gave no likelihoods, or there is one label only.
    """
    scores = answer.choice_log_likelihoods
    if scores is None or len(scores) < 2 or answer.text not in scores:
        return None
    return scores[answer.text] - max(value for label, value in scores.items() if label != answer.text)


def label_probability(answer: Answer) -> float | None:
    """Likelihood of the answered label over that of all labels, which is what sampling labels again and again would agree on.

    None as in `label_margin`.
    """
    share = log_share(answer)
    return None if share is None else math.exp(share)


def token_log_probability(answer: Answer) -> float | None:
    """Mean log-probability of the answer's tokens, its end included, nats; None where the engine gave none.

    The mean, not the sum, so that a long answer is not distrusted for its length.
    """
    if not answer.log_probs:
        return None
    return math.fsum(token.log_prob for token in answer.log_probs) / len(answer.log_probs)


def self_consistency(answer: Answer, samples: Sequence[Answer], *, is_json: bool) -> float | None:
    """How far sampled answers say the same as the one that is given; None where there are none.

    JSON either says the same or does not. Of texts, which hardly ever come twice, it is the mean likeness (chrF).

    Args:
        answer: What would be given; minus infinity where it failed.
        samples: Drawn from the same model for the same prompt; one that failed agrees with nothing.
        is_json: Answers are compared as JSON values.

    Source: Wang et al. 2023, "Self-consistency improves chain of thought reasoning in language models"; for texts as Manakul et al.
    2023, "SelfCheckGPT", with another likeness.
    """
    if not samples:
        return None
    if answer.has_failed:
        return NEVER
    if is_json:
        alike = [float(say_the_same(one.text, answer.text, is_json=True)) for one in samples if not one.has_failed]
    else:
        alike = [chrf(answer.text, one.text) for one in samples if not one.has_failed]
    return math.fsum(alike) / len(samples)


_OF_ANSWER = {
    Measure.LABEL_MARGIN: label_margin,
    Measure.LABEL_PROBABILITY: label_probability,
    Measure.TOKEN_LOG_PROBABILITY: token_log_probability,
}


def confidence(measure: Measure, answer: Answer) -> float | None:
    """One answer's confidence, by a measure that looks at the answer alone; minus infinity where the request failed.

    None where the answer does not have what the measure looks at.

    Raises:
        ValueError: The measure looks at more than the answer.
    """
    if measure not in _OF_ANSWER:
        raise ValueError(f"{measure} cannot be told from an answer alone")
    return NEVER if answer.has_failed else _OF_ANSWER[measure](answer)


def confidences(answers: Sequence[Answer]) -> dict[Measure, NDArray[np.float64]]:
    """The confidence of every answer, [N], by each measure that all of them that did not fail have what it takes for."""
    found: dict[Measure, NDArray[np.float64]] = {}
    for measure in _OF_ANSWER:
        values = [confidence(measure, answer) for answer in answers]
        if all(value is not None for value in values) and any(value != NEVER for value in values):
            found[measure] = np.array(values, dtype=np.float64)
    return found
