"""What this machine takes for a study and for one answer: measured on one training step and a few answers, nothing is kept."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median

from fettle.advice.measured import seconds
from fettle.advice_records import Measurement
from fettle.answering.engine import GenerationOptions
from fettle.answering.engines.plain import local_engine
from fettle.contenders.prompt import bare_prompt
from fettle.errors import memory_errors_explained
from fettle.models.load import LoadedModel
from fettle.records import Example
from fettle.study.passages import passages_seconds
from fettle.study.plan import NUM_LOCAL_ANSWER_RUNS, Estimate, estimate
from fettle.study.planning import StudyPlan

_NUM_TIMED = 4
_TIMED_TOKENS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Seconds on this machine, as it is busy now."""

    answer: Measurement
    """One answer of usual length, asked alone, the model as it is."""
    training: Measurement
    batched_answer_seconds: float
    """One answer among others."""
    study_seconds: float
    """Training and answering, without looking for what was forgotten."""


def time_study(plan: StudyPlan) -> Timing:
    """Measure one training step, a batch of answers, and a few answers one at a time.

    Raises:
        ResourceError: The machine has not the memory for the training.
    """
    with memory_errors_explained("measuring one training step"):
        expected = _expected(plan)
    assert expected.training is not None, "the study trains"
    model, device = plan.loaded.name, str(plan.loaded.model.device)
    num_answers = NUM_LOCAL_ANSWER_RUNS * (len(plan.split.valid) + len(plan.split.test))
    alone = _answer_alone(plan.loaded, plan.split.valid)
    return Timing(
        answer=seconds(
            "answer_seconds",
            "one answer of the model as it is, asked alone",
            alone,
            f"{model} on {device}, median of {min(_NUM_TIMED, len(plan.split.valid))} validation messages, at the length of their "
            "wanted answers",
        ),
        training=seconds(
            "training_seconds",
            "training",
            expected.training.seconds,
            f"{model} on {device}, from one measured step, {plan.settings.training.epochs} epochs at most",
        ),
        batched_answer_seconds=expected.answer_seconds / num_answers,
        study_seconds=expected.minutes * 60,
    )


def _expected(plan: StudyPlan) -> Estimate:
    """Of training and answering alone: asking 297 general questions is not sampled here, which would take as long as the rest."""
    settings = replace(plan.settings, forgetting=None)
    expected = estimate(plan.loaded, plan.tokens, plan.split, settings, plan.options)
    if plan.documents is None:
        return expected
    return replace(expected, passages_seconds=passages_seconds(plan, expected))


def _answer_alone(loaded: LoadedModel, examples: Sequence[Example]) -> float:
    """Median seconds of one answer: prompt and first token as measured, the other tokens at the measured pace."""
    engine = local_engine(loaded)
    taken = []
    for example in examples[:_NUM_TIMED]:
        length = len(loaded.renderer.answer_tokens(example.answer))
        times = {}
        for num_tokens in (1, 1 + _TIMED_TOKENS):
            started = time.perf_counter()
            engine.generate([bare_prompt(example)], GenerationOptions(max_new_tokens=num_tokens))
            times[num_tokens] = time.perf_counter() - started
        per_token = max(0.0, times[1 + _TIMED_TOKENS] - times[1]) / _TIMED_TOKENS
        taken.append(times[1] + per_token * max(0, length - 1))
    return median(taken)
