"""A study of free text whose limit cuts its answers, and judges with faults asked about it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer
from planted_studies import Bench, home_at, questions
from typer.testing import CliRunner

from fettle.answering.engines.local import LocalEngine
from fettle.cli.judge import judge
from fettle.examples.split import SplitSizes
from fettle.judging.records import FaultKind
from fettle.models.strength import tuned_sha256
from fettle.records import Decision, TaskKind
from fettle.study.kept_prompts import kept_prompts
from fettle.study.run import StudyResult, run_study
from fettle.study.settings import StudySettings
from local_endpoint import Reply, completion, endpoint
from tiny_models import save_tiny_model

CUT = "answers cut at the token limit"
app = typer.Typer()
app.command()(judge)


def settings_of(folder: Path) -> StudySettings:
    return replace(
        Bench(folder).settings,
        examples=folder / "text.jsonl",
        task=TaskKind.TEXT,
        sizes=SplitSizes(train=20, valid=8, test=52),
        max_new_tokens=6,
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StudyResult]:
    """A random model's answers to 52 questions, cut after six tokens."""
    folder = tmp_path_factory.mktemp("bench")
    save_tiny_model(folder / "model", "qwen2")
    rows = [(text, f"Dear customer, about your {label}: {text.split()[0]}.") for text, label in questions(80)]
    greeting = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Good day"}]
    turns = [[*greeting, {"role": "user", "content": q}, {"role": "assistant", "content": a}] for q, a in rows]
    (folder / "text.jsonl").write_text("".join(json.dumps({"messages": one}) + "\n" for one in turns))
    with home_at(folder / "home"):
        yield run_study(settings_of(folder))


def test_whole_conversations_of_the_test_split_are_kept_beside_the_report(finished: StudyResult) -> None:
    kept = kept_prompts(finished.paths.json.parent)
    assert kept is not None
    assert set(kept) == {row.example_id for row in finished.report.rows}
    assert {tuple(turn.role for turn in asked) for asked in kept.values()} == {("user", "assistant", "user")}


def test_the_report_says_which_weights_answered(finished: StudyResult) -> None:
    assert finished.report.tuned_sha256 == tuned_sha256(finished.tuned)


def test_a_limit_that_cuts_most_answers_is_named_and_decides_nothing(finished: StudyResult) -> None:
    report = finished.report
    assert report.verdict.decision is Decision.CANNOT_TELL
    assert report.verdict.headline.startswith(f"Cannot tell yet: {CUT}")
    assert any(warning.startswith(CUT.capitalize()) for warning in report.warnings)
    assert any("answers were cut at the token limit" in warning for warning in report.warnings)
    assert re.search(r"--max-new-tokens 12\b", " ".join(report.verdict.reasons))


def test_empty_answers_are_told(finished: StudyResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generate = LocalEngine.generate

    def silent(engine: LocalEngine, prompts: Any, options: Any) -> Any:
        return tuple(replace(answer, text="") for answer in generate(engine, prompts, options))

    monkeypatch.setattr(LocalEngine, "generate", silent)
    settings = settings_of(finished.paths.html.parents[1])
    sizes = SplitSizes(train=12, valid=5, test=8)
    found = run_study(replace(settings, sizes=sizes, out=tmp_path / "study")).report.warnings
    assert any(warning.startswith("Empty answers: 8 of 8 of Fine-tuned (LoRA)") for warning in found)


# Judges.


def judged(study: Path, prefers_first: Callable[[str, str], bool]) -> tuple[str, int]:
    def answer(body: dict[str, Any], _number: int) -> Reply:
        text = body["messages"][-1]["content"]
        if text == "Hi":
            return completion("hi")
        first, second = re.findall(r"=== (?:FIRST|SECOND) ANSWER \w+ ===\n(.*?)\n=== END OF", text, re.DOTALL)
        pick = "first" if prefers_first(first, second) else "second"
        return completion(json.dumps({"verdict": pick, "reason": "so it seems"}))

    with endpoint(answer) as served:
        words = ["judge", str(study), "--endpoint", served.url, "--model", "m", "--between", "few_shot", "prompt"]
        found = CliRunner().invoke(app, words[1:], env={"COLUMNS": "300"})
    return " ".join(found.output.split()), found.exit_code


def test_a_judge_with_an_opinion_of_its_own_has_no_fault(finished: StudyResult) -> None:
    def of_its_own(first: str, second: str) -> bool:
        return hashlib.sha256(first.encode()).digest() < hashlib.sha256(second.encode()).digest()

    output, code = judged(finished.paths.html.parent, of_its_own)
    assert code == 0, output
    assert not [fault for fault in FaultKind if fault.value in output]


def test_a_judge_that_always_prefers_the_first_is_named_and_cannot_be_used(finished: StudyResult) -> None:
    output, code = judged(finished.paths.html.parent, lambda _first, _second: True)
    assert code == 4, output
    assert FaultKind.PREFERS_FIRST.value in output


def test_a_judge_that_prefers_the_longer_is_named(finished: StudyResult) -> None:
    output, _ = judged(finished.paths.html.parent, lambda first, second: len(first) > len(second))
    assert FaultKind.PREFERS_LONGER.value in output
    assert "length-controlled win rate" in output
