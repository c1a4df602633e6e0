"""lm-evaluation-harness on a tiny model, where it is installed: its questions, its scores, and no connection."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from adapters import write_adapter
from fettle.errors import ConfigError, DataError
from fettle.files import read_json_lines, write_json_lines
from fettle.forgetting.harness import Harness, LoadedTasks
from fettle.forgetting.harness_changes import harness_changes, harness_results
from fettle.forgetting.harness_model import HarnessModel, KeptReplies, harness_lm
from fettle.forgetting.settings import HarnessSettings
from fettle.models.adapter import load_adapter, unload_adapters
from fettle.models.load import LoadedModel
from fettle.models.understood import own_logits
from fettle.progress import SilentListener
from harness_tasks import QUESTIONS, write_tasks
from tiny_models import load_tiny_model, save_tiny_model

pytest.importorskip("lm_eval", reason="fettle-llm[harness] is not installed")


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    folder = tmp_path_factory.mktemp("model")
    save_tiny_model(folder, "qwen2")
    return load_tiny_model(folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tasks(tmp_path_factory.mktemp("tasks") / "tasks")


def tasks_of(folder: Path, *names: str) -> LoadedTasks:
    return Harness(HarnessSettings(tasks=names, path=folder)).load()


def said(loaded: LoadedModel, tasks: LoadedTasks, file: Path, *, limit: int | None = None) -> Any:
    kept = KeptReplies(file=file, key="tiny")
    model = HarnessModel(harness_lm(loaded.model, loaded), kept, SilentListener(), who="the base model")
    return harness_results(tasks, model, limit=limit)


def log_likelihood(loaded: LoadedModel, question: str, choice: str) -> float:
    """Of ` choice` after a question, nats, by the model's own forward over the tokens of both."""
    tokenizer = loaded.renderer.tokenizer
    asked, whole = (tokenizer(text).input_ids for text in (question, f"{question} {choice}"))
    log_probs = own_logits(loaded.model, whole).log_softmax(-1)
    return sum(float(log_probs[place - 1, whole[place]]) for place in range(len(asked), len(whole)))


def test_scores_are_those_of_the_models_own_likelihoods(loaded: LoadedModel, folder: Path, tmp_path: Path) -> None:
    results = said(loaded, tasks_of(folder, "our_choices"), tmp_path / "base.jsonl")
    with torch.inference_mode():
        nats = [[log_likelihood(loaded, question, choice) for choice in choices] for question, choices, _ in QUESTIONS]
    right = [row.index(max(row)) == label for row, (_, _, label) in zip(nats, QUESTIONS, strict=True)]
    samples = sorted(results["samples"]["our_choices"], key=lambda sample: sample["doc_id"])
    for sample, row in zip(samples, nats, strict=True):
        assert [reply[0] for reply in sample["filtered_resps"]] == pytest.approx(row, abs=1e-3)
    assert [sample["acc"] for sample in samples] == [float(one) for one in right]


def test_one_model_beside_itself_has_not_changed_and_another_has(
    loaded: LoadedModel, folder: Path, tmp_path: Path
) -> None:
    tasks = tasks_of(folder, "our_tasks")
    assert tasks.asked[0].members == ("our_choices", "our_words")
    before = said(loaded, tasks, tmp_path / "base.jsonl")
    [same] = harness_changes(tasks.asked, before, said(loaded, tasks, tmp_path / "again.jsonl"))
    assert (same.num_items, same.num_worse, same.num_better, same.change.estimate) == (24, 0, 0, 0)
    assert same.title == "our_tasks (acc, exact_match, 2 tasks; lm-evaluation-harness)"
    with adapted(loaded, tmp_path / "adapter"):
        after = said(loaded, tasks, tmp_path / "tuned.jsonl")
    nats = [[sample["resps"] for sample in one["samples"]["our_choices"]] for one in (before, after)]
    assert nats[0] != nats[1], "the adapter is asked"
    assert said(loaded, tasks, tmp_path / "bare.jsonl")["results"] == before["results"], "and off again"


@contextmanager
def adapted(loaded: LoadedModel, folder: Path) -> Iterator[None]:
    """With an adapter on the model that changes what it says."""
    peft = load_adapter(loaded, write_adapter(loaded, folder, seed=1), name="tuned")
    try:
        yield
    finally:
        unload_adapters(peft)


def test_a_run_that_was_killed_ends_as_if_it_had_not_been(loaded: LoadedModel, folder: Path, tmp_path: Path) -> None:
    tasks = tasks_of(folder, "our_tasks")
    whole = said(loaded, tasks, tmp_path / "whole.jsonl")
    rows = read_json_lines(tmp_path / "whole.jsonl")
    assert len(rows) == 1 + 12 * 3 + 12
    write_json_lines(tmp_path / "cut.jsonl", rows[:20])
    went_on = said(loaded, tasks, tmp_path / "cut.jsonl")
    assert went_on["results"] == whole["results"]
    assert sorted(map(str, read_json_lines(tmp_path / "cut.jsonl"))) == sorted(map(str, rows))


def test_a_limit_asks_the_first_questions_alone(loaded: LoadedModel, folder: Path, tmp_path: Path) -> None:
    results = said(loaded, tasks_of(folder, "our_choices"), tmp_path / "base.jsonl", limit=5)
    assert sorted(sample["doc_id"] for sample in results["samples"]["our_choices"]) == [0, 1, 2, 3, 4]


def test_perplexity_is_no_score_that_a_change_is_told_of(loaded: LoadedModel, folder: Path, tmp_path: Path) -> None:
    tasks = tasks_of(folder, "our_texts")
    results = said(loaded, tasks, tmp_path / "base.jsonl")
    with pytest.raises(DataError, match="no metric that is a mean"):
        harness_changes(tasks.asked, results, results)


def test_the_study_s_tokenizer_is_left_as_it_was(loaded: LoadedModel) -> None:
    before = loaded.renderer.tokenizer.pad_token, len(loaded.renderer.tokenizer)
    harness_lm(loaded.model, loaded)
    assert (loaded.renderer.tokenizer.pad_token, len(loaded.renderer.tokenizer)) == before


def test_own_tasks_need_no_connection_and_the_harness_s_own_are_named_before_one_is_opened(folder: Path) -> None:
    assert Harness(HarnessSettings(tasks=("our_choices",), path=folder)).fetched_in_words == ""
    mixed = Harness(HarnessSettings(tasks=("our_choices", "arc_easy"), path=folder))
    assert mixed.fetched == ("arc_easy",)
    assert "the data of arc_easy are fetched from Hugging Face" in mixed.fetched_in_words
    with pytest.raises(ConfigError, match="has no task 'arc_eazy'") as refused:
        Harness(HarnessSettings(tasks=("arc_eazy",)))
    assert "arc_easy" in str(refused.value.remedy)


def test_no_socket_is_opened_for_own_tasks(loaded: LoadedModel, folder: Path, tmp_path: Path) -> None:
    code = f"""
import sys
def hook(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
        print("socket", event, arguments, flush=True)
        sys.exit(9)
sys.addaudithook(hook)
from pathlib import Path
from test_harness import said, tasks_of
from tiny_models import load_tiny_model
model, tasks, kept = map(Path, {[str(loaded.source.path), str(folder), str(tmp_path / "kept")]!r})
results = said(load_tiny_model(model), tasks_of(tasks, "our_tasks"), kept)
print(*results["results"])
"""
    paths = os.pathsep.join([*sys.path, str(Path(__file__).parent)])
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env=os.environ | {"PYTHONPATH": paths},
    )
    assert (done.returncode, done.stdout.strip()) == (0, "our_choices our_words"), done.stdout + done.stderr


def test_data_that_are_not_there_are_told_of_with_the_task(folder: Path, tmp_path: Path) -> None:
    broken = write_tasks(tmp_path / "broken")
    (broken / "questions.jsonl").unlink()
    with pytest.raises(DataError, match="its data cannot be read") as refused:
        tasks_of(broken, "our_choices")
    assert refused.value.where == "--harness-task our_choices"
