"""The rule of a study as a function that judges one answer, for a router that serves."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fettle.errors import ConfigError, EngineError, RemoteError, ResourceError
from fettle.records import Answer, Prompt
from fettle.retrieval.embedder import Embedder
from fettle.routing.confidence import NEVER, Measure, confidence, self_consistency
from fettle.routing.foreseen import Foresight
from fettle.routing.router import Judging
from fettle.routing_records import RoutingRule

Drawing = Callable[[Prompt], Sequence[Answer]]
"""Draws further answers of the small model."""


def judge_by(
    rule: RoutingRule, *, embedder: Embedder | None = None, draw: Drawing | None = None, is_json: bool = False
) -> Judging:
    """What measures the confidence of an answer as the rule says.

    The prompt that it is given is the request as it came, without an instruction, shots or passages of the small contender's own.

    Args:
        rule: Of a study.
        embedder: The one that the study foresaw confidence with; needed by that measure alone.
        draw: Needed by self-consistency alone.
        is_json: Sampled answers are compared as JSON values.

    Raises:
        ConfigError: The measure is none that this Fettle knows, or lacks what it needs.
    """
    if rule.measure not in set(Measure):
        raise ConfigError(
            f"{rule.measure!r} is no measure of confidence", remedy=f"name one of: {', '.join(sorted(Measure))}"
        )
    measure = Measure(rule.measure)
    if measure is Measure.FORESEEN:
        if embedder is None or not rule.coefficients:
            raise ConfigError(
                "confidence that is foreseen from the input needs an embedder and the coefficients of a study",
                remedy="make the router from the report of a study",
            )
        foresight = Foresight(coefficients=rule.coefficients, intercept=rule.intercept)
        return lambda prompt, answer: (
            NEVER if answer.has_failed else float(foresight.of(embedder.embed([_input_text(prompt)]))[0])
        )
    if measure is Measure.SELF_CONSISTENCY:
        if draw is None or rule.num_samples < 2:
            raise ConfigError(
                "agreement of sampled answers needs an engine that samples, and at least two samples",
                remedy="make the router from the report of a study with --route-samples",
            )
        drawn_by = draw
        return lambda prompt, answer: _agreement(answer, prompt, drawn_by, is_json=is_json)
    return lambda _, answer: confidence(measure, answer)


def _agreement(answer: Answer, prompt: Prompt, draw: Drawing, *, is_json: bool) -> float | None:
    """How far samples agree with an answer; None: they could not be drawn, as the engine is full or has failed."""
    try:
        return self_consistency(answer, draw(prompt), is_json=is_json)
    except (ResourceError, EngineError, RemoteError):
        return None


def _input_text(prompt: Prompt) -> str:
    """What the user says, as `records.Example.input_text` has it for an example without a context."""
    said = [message.content for message in prompt.messages if message.role == "user"]
    return "\n".join(said) if said else prompt.messages[-1].content if prompt.messages else ""
