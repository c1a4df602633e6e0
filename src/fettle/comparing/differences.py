"""What differs between two finished studies besides their answers: settings, data, model, training, what was forgotten."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fettle.comparing.records import Difference
from fettle.report_records import Forgetting, StudyReport, TrainingSummary


def study_differences(first: StudyReport, second: StudyReport) -> tuple[Difference, ...]:
    """Everything that the reports tell of how the studies came about and that is not equal, group by group."""
    ours, theirs = dict(_facts(first)), dict(_facts(second))
    groups = dict.fromkeys(group for group, _ in (*ours, *theirs))
    return tuple(
        Difference(group=group, name=name, first=ours.get((group, name)), second=theirs.get((group, name)))
        for one in groups
        for group, name in dict.fromkeys((*ours, *theirs))
        if group == one and ours.get((group, name)) != theirs.get((group, name))
    )


def base_model_of(report: StudyReport) -> str | None:
    """The base model of the tuned contender; None: the report has none."""
    if report.training is not None:
        return report.training.base_model
    return None if report.studied_model is None else report.studied_model.base_model


def _facts(report: StudyReport) -> Iterator[tuple[tuple[str, str], Any]]:
    """((group, name), value) of all that could differ."""
    origin = report.provenance
    yield ("Verdict", "decision"), report.verdict.decision.value
    yield from _named("Settings", origin.settings)
    yield ("Model", "base model"), base_model_of(report)
    yield ("Model", "studied model"), None if report.studied_model is None else report.studied_model.name
    yield ("Model", "weights, SHA-256"), origin.model_sha256
    yield ("Model", "chat template, SHA-256"), origin.template_sha256
    for name, sha256 in origin.data_sha256.items():
        yield ("Data", f"{name}, SHA-256"), sha256
    for part, number in report.num_examples.items():
        yield ("Data", f"{part} examples"), number
    for part, sha256 in origin.split_sha256.items():
        yield ("Data", f"{part} split, SHA-256"), sha256
    for grader in report.graders:
        yield ("Graders", f"{grader.name}, SHA-256"), grader.sha256
    yield ("Data", "labels"), sorted(report.task.labels)
    yield ("Data", "JSON schema"), report.task.json_schema
    yield ("Data", "instruction"), origin.instruction
    if report.training is not None:
        yield from _of_training(report.training)
    if report.strength_sweep is not None:
        yield ("Training", "strength of the adapter"), report.strength_sweep.chosen
    if report.forgetting is not None:
        yield from _of_forgetting(report.forgetting)
    for contender in report.contenders:
        yield ("Contenders", contender.name), f"{contender.title}: {contender.description}"
    yield ("Run", "fettle"), origin.fettle_version
    yield ("Run", "machine"), origin.machine
    yield from _named("Run", origin.versions)


def _named(group: str, values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[tuple[str, str], Any]]:
    """The values of nested mappings, by their path of keys."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _named(group, value, prefix=f"{prefix}{name}.")
        else:
            yield (group, prefix + name), value


def _of_training(training: TrainingSummary) -> Iterator[tuple[tuple[str, str], Any]]:
    yield from _named("Training", training.settings)
    losses = [point.valid_loss for point in training.loss_points if point.step == training.best_step]
    yield ("Training", "validation loss at the best step"), next((one for one in losses if one is not None), None)
    yield ("Training", "best step"), training.best_step
    yield ("Training", "steps"), training.num_steps
    yield ("Training", "stopped early"), training.stopped_early
    yield ("Training", "training examples"), training.num_train_examples
    yield ("Training", "trained tokens"), training.num_trained_tokens
    yield ("Training", "seconds"), training.seconds
    yield ("Training", "peak memory, bytes"), training.peak_memory_bytes


def _of_forgetting(forgetting: Forgetting) -> Iterator[tuple[tuple[str, str], Any]]:
    yield ("Forgetting", "budget, points"), forgetting.budget_points
    yield ("Forgetting", "budget"), forgetting.decision.value
    yield ("Forgetting", "general suite, SHA-256"), forgetting.suite_sha256
    for change in (forgetting.general, forgetting.own, *forgetting.harness):
        if change is not None:
            yield ("Forgetting", f"{change.title}, change in points"), round(100 * change.change.estimate, 2)
    if forgetting.divergence is not None:
        yield ("Forgetting", "KL from the base model, nats a token"), forgetting.divergence.nats
