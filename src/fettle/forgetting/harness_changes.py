"""From the harness's results for a base model and a tuned one to changes with intervals, paired question by question."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from fettle.errors import DataError
from fettle.forgetting.changes import skill_change
from fettle.forgetting.harness import HarnessTask, LoadedTasks, import_lm_eval, quiet, told_as_data_error
from fettle.forgetting.harness_model import HarnessModel
from fettle.records import Score
from fettle.report_records import SkillChange

_TIE = 1e-9


def harness_results(tasks: LoadedTasks, model: HarnessModel, *, limit: int | None) -> Mapping[str, Any]:
    """All that `lm_eval` says of a model on some tasks.

    Args:
        tasks: What is asked.
        model: Who answers.
        limit: So many questions of each task at most; None: all.

    Raises:
        DataError: A task cannot be evaluated: its templates fail, or it would run code that a model wrote.
    """
    names = ", ".join(task.name for task in tasks.asked)
    with told_as_data_error(names, doing="a task cannot be evaluated"), quiet():
        return import_lm_eval("evaluator").evaluate(
            model, {"tasks": dict(tasks.by_name)}, limit=limit, bootstrap_iters=0
        )


def harness_changes(
    asked: Sequence[HarnessTask], base: Mapping[str, Any], tuned: Mapping[str, Any]
) -> tuple[SkillChange, ...]:
    """The change on each task or group that was asked for, over all questions of it.

    A group's questions count the same, whatever task they are of. Each question counts for itself: the harness does not say which
    belong together.

    Args:
        asked: The tasks.
        base: What `harness_results` gave for the base model.
        tuned: For the tuned one.

    Raises:
        DataError: A task has no metric that is a mean over its questions, from 0 to 1 with more being better.
    """
    return tuple(_change(task, base, tuned) for task in asked)


def _change(task: HarnessTask, base: Mapping[str, Any], tuned: Mapping[str, Any]) -> SkillChange:
    before: list[Score] = []
    after: list[Score] = []
    metrics: dict[str, None] = {}
    for member in task.members:
        metric, kept_by = _mean_metric(member, base)
        metrics[metric] = None
        ours, theirs = (_scores(member, results, metric, kept_by) for results in (base, tuned))
        before += [Score(example_id=name, value=value) for name, value in ours.items()]
        after += [Score(example_id=name, value=theirs.get(name)) for name in ours]
    of = f", {len(task.members)} tasks" if len(task.members) > 1 else ""
    title = f"{task.name} ({', '.join(metrics)}{of}; lm-evaluation-harness)"
    return skill_change(before, after, range(len(before)), name=task.name, title=title)


def _mean_metric(task: str, results: Mapping[str, Any]) -> tuple[str, str]:
    """(metric, filter) that a task is scored by: the first that is the mean of scores in [0, 1], more being better."""
    samples = results["samples"][task]
    for sample in samples[:1]:
        for metric in sample["metrics"]:
            told = results["results"][task].get(f"{metric},{sample['filter']}")
            values = list(_scores(task, results, metric, sample["filter"]).values())
            known = [value for value in values if value is not None]
            is_mean = known and isinstance(told, float) and abs(told - sum(known) / len(known)) < _TIE
            if is_mean and results["higher_is_better"][task].get(metric) is True and len(known) == len(values):
                return metric, sample["filter"]
    raise DataError(
        "this task has no metric that is a mean over its questions, from 0 to 1 with more being better, so no change can be told",
        where=f"--harness-task {task}",
        remedy="choose another task: those scored by acc or exact_match have one",
    )


def _scores(task: str, results: Mapping[str, Any], metric: str, kept_by: str) -> dict[str, float | None]:
    """The score of each question; None: it is no number in [0, 1]."""
    return {
        f"{task}/{sample['doc_id']}": _score(sample.get(metric))
        for sample in results["samples"][task]
        if sample["filter"] == kept_by
    }


def _score(value: Any) -> float | None:
    """A score of the harness as a number.

    >>> _score(True), _score(0.25), _score((1, 2)), _score(3.5)
    (1.0, 0.25, None, None)
    """
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) and 0 <= number <= 1 else None
