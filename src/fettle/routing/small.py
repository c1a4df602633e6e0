"""The small model of a router as a function that answers one prompt, as it did in the study that the rule comes from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from fettle.answering.engine import GenerationOptions
from fettle.answering.sampling import Sampling
from fettle.contenders.readings import LabelReading, Reading
from fettle.errors import ConfigError, require_range
from fettle.records import Answer, Prompt
from fettle.routing.confidence import Measure
from fettle.routing.judge import Drawing
from fettle.routing.router import Answering
from fettle.routing_records import RoutingRule

TEMPERATURE = 0.7
"""As Wang et al. 2023 sample for self-consistency."""


class Asked(Protocol):
    """As much of an engine as is asked here."""

    def generate(self, prompts: Sequence[Prompt], options: GenerationOptions) -> tuple[Answer, ...]:
        """As of `fettle.answering.engine.Engine`."""
        ...

    def choose(self, prompts: Sequence[Prompt], choices: Sequence[str]) -> tuple[Answer, ...]:
        """Likewise."""
        ...


def small_answering(engine: Asked, rule: RoutingRule, options: GenerationOptions) -> Answering:
    """Answers as the small contender did: a label, read as the study read it, or a text, with its tokens' log-probabilities where
    they are what is measured.

    Args:
        engine: Of the small model.
        rule: Of the study.
        options: How texts are written; not looked at where the rule has labels.

    Raises:
        ConfigError: The rule reads labels in a way that this Fettle does not know.
    """
    if not rule.labels:
        if rule.measure == Measure.TOKEN_LOG_PROBABILITY:
            options = replace(options, num_top_log_probs=options.num_top_log_probs or 0)
        written = options
        return lambda prompt: engine.generate([prompt], written)[0]
    if rule.reading not in set(Reading):
        raise ConfigError(f"labels cannot be read by {rule.reading!r}", remedy=f"name one of: {', '.join(Reading)}")
    reading = LabelReading(kind=Reading(rule.reading), mean_log_likelihoods=rule.label_offsets)
    return lambda prompt: reading.read(engine.choose([prompt], rule.labels))[0]


def sampled(options: GenerationOptions, number: int, *, temperature: float = TEMPERATURE) -> GenerationOptions:
    """How the sample of that number is written, in a study and in a server alike: the same one whenever the prompt is the same."""
    sampling = Sampling(temperature=temperature, seed=number)
    return replace(options, sampling=sampling, num_top_log_probs=None)


def drawing(engine: Asked, options: GenerationOptions, *, num_samples: int, temperature: float) -> Drawing:
    """Draws answers to a prompt for self-consistency.

    Args:
        engine: Of the small model; it has to be able to sample.
        options: How texts are written.
        num_samples: How many, each of which takes as long as the answer itself, or less where they run together.
        temperature: Of the study that the rule comes from.

    Raises:
        ConfigError: The number is below 2.
    """
    require_range("num_samples", num_samples, low=2)

    def draw(prompt: Prompt) -> Sequence[Answer]:
        return [
            engine.generate([prompt], sampled(options, number, temperature=temperature))[0]
            for number in range(num_samples)
        ]

    return draw
