"""A study that asks both models tasks of lm-evaluation-harness, where it is installed; and what is said where it is not."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from command import Runner
from reports import load
from studies import WHOLE_STUDY, require_refused

from harness_tasks import QUESTIONS, write_tasks

IS_INSTALLED = importlib.util.find_spec("lm_eval") is not None
needs_harness = pytest.mark.skipif(not IS_INSTALLED, reason="fettle-llm[harness] is not installed")


@pytest.mark.skipif(IS_INSTALLED, reason="lm-evaluation-harness is installed here")
def test_without_the_package_nothing_is_begun(fettle: Runner, tmp_path: Path) -> None:
    finished = fettle(*WHOLE_STUDY, "--harness-task", "arc_easy", "--out", tmp_path / "study")
    require_refused(finished, "is not installed here", "pip install 'fettle-llm[harness]'")
    assert not (tmp_path / "study").exists()


def test_options_about_no_task_are_refused(fettle: Runner, tmp_path: Path) -> None:
    out = ("--out", tmp_path / "study")
    require_refused(fettle(*WHOLE_STUDY, "--harness-limit", 5, *out), "no task of lm-evaluation-harness is named")
    require_refused(
        fettle(*WHOLE_STUDY, "--harness-task", "a", "--no-forgetting", *out), "--no-forgetting goes with none of"
    )


@needs_harness
@pytest.mark.parametrize("method", ["lora", "full"])
def test_the_change_on_each_task_is_in_the_report_and_is_asked_once(
    fettle: Runner, tmp_path: Path, method: str
) -> None:
    tasks = write_tasks(tmp_path / "tasks")
    asked = ("--harness-task", "our_choices", "--harness-task", "our_words", "--harness-path", tasks)
    command = (*WHOLE_STUDY, "--method", method, *asked, "--out", tmp_path / "study")
    finished = fettle(*command)
    assert finished.code in (0, 3, 4), finished.everything
    assert "our_choices, our_words of lm-evaluation-harness" in finished.everything
    assert "Hugging Face" not in finished.everything, "nothing is fetched"
    report = load(tmp_path / "study")
    changes = report["forgetting"]["harness"]
    assert [(one["name"], one["num_items"]) for one in changes] == [
        ("our_choices", len(QUESTIONS)),
        ("our_words", len(QUESTIONS)),
    ]
    assert changes[0]["title"] == "our_choices (acc; lm-evaluation-harness)"
    assert any("our_choices" in reason and "no budget" in reason for reason in report["verdict"]["reasons"])
    assert "our_words (exact_match; lm-evaluation-harness)" in (tmp_path / "study" / "report.html").read_text()

    folder = tmp_path / "study" / "answers" / "forgetting"
    kept = {name: (folder / f"harness-{name}.jsonl").read_bytes() for name in ("base", "tuned")}
    assert kept["base"].split(b"\n")[1:] != kept["tuned"].split(b"\n")[1:], "the tuned model is another"
    again = fettle(*command)
    assert again.code == finished.code
    assert load(tmp_path / "study")["forgetting"]["harness"] == changes
    assert {name: (folder / f"harness-{name}.jsonl").read_bytes() for name in kept} == kept


@needs_harness
def test_a_task_whose_data_are_not_there_ends_the_study_before_anything_is_answered(
    fettle: Runner, tmp_path: Path
) -> None:
    tasks = write_tasks(tmp_path / "tasks")
    (tasks / "questions.jsonl").unlink()
    command = (*WHOLE_STUDY, "--harness-task", "our_choices", "--harness-path", tasks, "--out", tmp_path / "study")
    require_refused(fettle(*command), "its data cannot be read", "--harness-task our_choices")
    assert not (tmp_path / "study" / "answers").exists()
