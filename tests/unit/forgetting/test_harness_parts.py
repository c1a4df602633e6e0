"""What Fettle makes of lm-evaluation-harness, without it: this runs everywhere."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from fettle.errors import ConfigError, DataError, EngineError
from fettle.forgetting.harness import Harness, HarnessTask, told_as_data_error
from fettle.forgetting.harness_changes import harness_changes
from fettle.forgetting.harness_model import HarnessModel, KeptReplies
from fettle.forgetting.settings import ForgettingSettings, HarnessSettings
from fettle.progress import SilentListener, Stage
from fettle.study.planning import plan_study
from fettle.study.settings import StudySettings
from fettle.training.settings import TrainingSettings


def test_without_the_package_the_study_ends_at_once_and_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("lm_eval.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "lm_eval", None)  # as Python says that there is none
    forgetting = ForgettingSettings(harness=HarnessSettings(tasks=("arc_easy",)))
    settings = StudySettings(examples=tmp_path / "not-even-looked-for.csv", forgetting=forgetting)
    with pytest.raises(ConfigError, match="lm-evaluation-harness is not installed here") as refused:
        plan_study(settings)
    assert refused.value.where == "--harness-task"
    assert "pip install 'fettle-llm[harness]'" in str(refused.value.remedy)


def test_a_divided_model_and_a_folder_that_is_not_there_are_refused(tmp_path: Path) -> None:
    forgetting = ForgettingSettings(harness=HarnessSettings(tasks=("arc_easy",)))
    training = TrainingSettings(processes=2, shard=True)
    with pytest.raises(ConfigError, match="several processes hold"):
        plan_study(StudySettings(examples=tmp_path / "a.csv", forgetting=forgetting, training=training))
    with pytest.raises(ConfigError, match="neither a file nor a folder"):
        Harness(HarnessSettings(tasks=("mine",), path=tmp_path / "none"))


@pytest.mark.parametrize("wrong", [{"tasks": ()}, {"tasks": ("a", "a")}, {"tasks": ("a",), "limit": 1}])
def test_settings_that_ask_for_nothing_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        HarnessSettings(**wrong)


# ---------------------------------------------------------------------------------------------------- replies


@dataclass(frozen=True)
class Request:
    args: tuple[Any, ...]


@dataclass
class CountingModel:
    """Answers as `lm_eval`'s models do, from the length of what it is asked, and counts."""

    num_asked: int = 0
    dies_after: int | None = None

    def loglikelihood(self, requests: Sequence[Request]) -> list[tuple[float, bool]]:
        self._count(requests)
        return [(-float(len(request.args[1])), len(request.args[1]) > 3) for request in requests]

    def loglikelihood_rolling(self, requests: Sequence[Request]) -> list[float]:
        self._count(requests)
        return [-float(len(request.args[0])) for request in requests]

    def generate_until(self, requests: Sequence[Request]) -> list[str]:
        self._count(requests)
        return [f"answer {self.num_asked - len(requests) + place}" for place in range(len(requests))]

    def _count(self, requests: Sequence[Request]) -> None:
        if self.dies_after is not None and self.num_asked >= self.dies_after:
            raise KeyboardInterrupt
        self.num_asked += len(requests)


@dataclass
class Stages(SilentListener):
    seen: list[tuple[int, int]] = field(default_factory=list)

    def on_stage(self, stage: Stage) -> None:
        self.seen.append((stage.num_done, stage.num_total))


def asked(
    lm: CountingModel, file: Path, listener: SilentListener | None = None, *, key: str = "a model"
) -> HarnessModel:
    return HarnessModel(lm, KeptReplies(file=file, key=key), listener or SilentListener(), who="the base model")


CHOICES = [Request((f"question {number}", " " + "x" * (number % 5))) for number in range(100)]


def test_a_killed_run_asks_only_what_it_has_no_reply_to(tmp_path: Path) -> None:
    file = tmp_path / "replies.jsonl"
    whole = asked(CountingModel(), tmp_path / "whole.jsonl").loglikelihood(CHOICES)
    assert whole == CountingModel().loglikelihood(CHOICES)
    with pytest.raises(KeyboardInterrupt):
        asked(CountingModel(dies_after=64), file).loglikelihood(CHOICES)
    rest, stages = CountingModel(), Stages()
    assert asked(rest, file, stages).loglikelihood(CHOICES) == whole
    assert rest.num_asked == 36
    assert stages.seen == [(96, 100), (100, 100)]
    again = CountingModel()
    assert asked(again, file).loglikelihood(CHOICES) == whole
    assert again.num_asked == 0


def test_replies_of_another_model_are_not_taken(tmp_path: Path) -> None:
    file = tmp_path / "replies.jsonl"
    asked(CountingModel(), file).loglikelihood(CHOICES[:10])
    other = CountingModel()
    asked(other, file, key="another model").loglikelihood(CHOICES[:10])
    assert other.num_asked == 10


def test_each_kind_of_request_and_each_repeat_has_a_reply_of_its_own(tmp_path: Path) -> None:
    model = asked(CountingModel(), tmp_path / "replies.jsonl")
    same = Request(("Write a word.", {"until": ["\n"]}))
    assert model.generate_until([same, same]) == ["answer 0", "answer 1"]
    assert model.generate_until([same, same]) == ["answer 0", "answer 1"]
    assert model.loglikelihood_rolling([Request(("some text",))]) == [-9.0]


def test_a_likelihood_that_is_no_number_is_no_reply(tmp_path: Path) -> None:
    class Broken(CountingModel):
        def loglikelihood(self, requests: Sequence[Request]) -> list[tuple[float, bool]]:
            return [(float("nan"), False) for _ in requests]

    with pytest.raises(EngineError, match="no finite log-likelihoods"):
        asked(Broken(), tmp_path / "replies.jsonl").loglikelihood(CHOICES[:2])


# ---------------------------------------------------------------------------------------------------- scores


def results(scores: dict[str, Sequence[Any]], *, metric: str = "acc", is_more_better: bool = True) -> dict[str, Any]:
    """Results as `lm_eval` gives them, of tasks with these scores."""
    return {
        "results": {task: {f"{metric},none": sum(map(float, some)) / len(some)} for task, some in scores.items()},
        "higher_is_better": {task: {metric: is_more_better} for task in scores},
        "samples": {
            task: [
                {"doc_id": number, "filter": "none", "metrics": ["other", metric], "other": (1, 2), metric: score}
                for number, score in enumerate(some)
            ]
            for task, some in scores.items()
        },
    }


def test_the_change_is_that_of_the_first_metric_that_is_a_mean_question_by_question() -> None:
    base, tuned = results({"arc": [True, True, False, True]}), results({"arc": [True, False, False, False]})
    [change] = harness_changes([HarnessTask(name="arc", members=("arc",))], base, tuned)
    assert (change.name, change.title) == ("arc", "arc (acc; lm-evaluation-harness)")
    assert (change.base, change.tuned, change.change.estimate) == (0.75, 0.25, -0.5)
    assert (change.num_items, change.num_worse, change.num_better, change.num_unscored) == (4, 2, 0, 0)
    assert change.change.low < -0.5 < change.change.high


def test_a_group_is_one_change_over_all_its_questions() -> None:
    base, tuned = results({"a": [1, 1, 1], "b": [0]}), results({"a": [1, 1, 0], "b": [1]})
    [change] = harness_changes([HarnessTask(name="ab", members=("a", "b"))], base, tuned)
    assert change.title == "ab (acc, 2 tasks; lm-evaluation-harness)"
    assert (change.num_items, change.base, change.tuned) == (4, 0.75, 0.75)
    assert (change.num_worse, change.num_better) == (1, 1)


def test_a_question_that_the_tuned_model_has_no_score_for_is_unscored_and_no_zero() -> None:
    base, tuned = results({"a": [1, 1, 1]}), results({"a": [1, 1, float("nan")]})
    [change] = harness_changes([HarnessTask(name="a", members=("a",))], base, tuned)
    assert (change.num_items, change.num_unscored, change.tuned) == (2, 1, 1.0)


@pytest.mark.parametrize(
    "unfit",
    [
        results({"a": [1, 0]}, is_more_better=False),
        results({"a": [3.5, 7.0]}, metric="perplexity"),
        results({"a": [1, 0]}) | {"results": {"a": {"acc,none": 0.9}}},  # no mean of its questions: a corpus metric
    ],
)
def test_a_task_without_such_a_metric_is_refused(unfit: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="no metric that is a mean") as refused:
        harness_changes([HarnessTask(name="a", members=("a",))], unfit, unfit)
    assert refused.value.where == "--harness-task a"


def test_what_a_task_raises_is_told_about_the_task_but_not_what_is_about_memory() -> None:
    with (
        pytest.raises(DataError, match=r"it fails \(ConnectionError: no network\)"),
        told_as_data_error("a", doing="it fails"),
    ):
        raise ConnectionError("no network\nat all")
    with pytest.raises(RuntimeError, match="out of memory"), told_as_data_error("a", doing="it fails"):
        raise RuntimeError("CUDA out of memory")
