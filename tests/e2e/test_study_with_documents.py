"""A study with documents: five arms, one of them trained to answer from passages, and where answers fail."""

from __future__ import annotations

import json
import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from command import Runner
from reports import comparable, load
from studies import TASK_ALONE, require_refused

ABSTENTION = "The documents do not answer this question."
TOWNS = ("Oslo", "Lima", "Quito", "Cairo", "Hanoi", "Paris", "Tunis", "Dakar", "Seoul", "Accra")
COMMAND = (
    *("study", "questions.jsonl", "--model", "../model", "--task", "text", "--max-new-tokens", "12"),
    *("--epochs", "1", "--batch-size", "4", *TASK_ALONE),
)
ARMS = {"constant", "prompt", "few_shot", "few_shot_nearest", "retrieval", "tuned", "tuned_retrieval"}


@pytest.fixture(scope="module")
def firms() -> list[tuple[str, str]]:
    """(firm, town), in which its office is."""
    rng = random.Random(4)
    names = ["".join(rng.sample("bdfgklmnprstvz", 3)) + rng.choice("aeiou") + rng.choice("nrst") for _ in range(44)]
    return [(name.capitalize(), rng.choice(TOWNS)) for name in dict.fromkeys(names)]


@pytest.fixture
def fettle(bench: Path, tmp_path: Path, firms: list[tuple[str, str]]) -> Runner:
    """Runs `fettle` in a folder with questions and a folder of documents, which answers most of them."""
    (tmp_path / "model").symlink_to(bench / "model")
    folder = tmp_path / "data"
    documents = folder / "manual"
    documents.mkdir(parents=True)
    rows = []
    for number, (firm, town) in enumerate(firms):
        is_told = number % 4 != 0
        about = f"The office of {firm} is in {town}." if is_told else f"{firm} sells pumps and hoses."
        (documents / f"{firm.lower()}.md").write_text(f"# {firm}\n\n{about}\n\nIt was founded by {firm} Senior.\n")
        row = {"id": firm, "question": f"Where is the office of {firm}?", "answer": town if is_told else ABSTENTION}
        rows.append(row | {"doc_ids": [f"{firm.lower()}.md"] if is_told else []})
    (folder / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Runner(folder, tmp_path / "home")


def test_five_arms_answer_and_the_report_says_where_they_fail(fettle: Runner, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    command = (*COMMAND, "--documents", "manual", "--passages", "3", "--out", folder)
    finished = fettle(*command)
    assert finished.code in (0, 3, 4), finished.everything
    assert "Training with passages: " in finished.everything
    report = load(folder)
    assert {one["name"] for one in report["contenders"]} == ARMS
    assert report["primary_metric"] == "answer_or_abstention"
    tuned = {one["name"] for one in report["contenders"] if one["is_fine_tuned"]}
    assert report["comparisons"][0]["challenger"] in tuned
    assert [one["contender"] for one in report["tuned_beside"]] == list(
        tuned - {report["comparisons"][0]["challenger"]}
    )
    assert "is the tuned contender that did best on validation" in report["declaration"]

    retrieval = report["retrieval"]
    assert [one["method"] for one in retrieval["qualities"]] == [
        *("Vector", "Full text", "Hybrid", "Hybrid, reranked by late-interaction")
    ]
    assert [one["is_used"] for one in retrieval["qualities"]] == [False, False, False, True]
    by_words = retrieval["qualities"][1]["recalls"]
    assert [at["depth"] for at in by_words] == [1, 3, 5, 10]
    assert by_words[0]["recall"]["estimate"] > 0.9  # the firm's name stands in its document alone
    assert {one["contender"] for one in retrieval["losses"]} == {"retrieval", "tuned_retrieval"}
    for loss in retrieval["losses"]:
        metrics = next(one for one in report["contenders"] if one["name"] == loss["contender"])["metrics"]
        lost = sum(group["lost"] for group in loss["groups"])
        assert lost == pytest.approx(1 - metrics[0]["interval"]["estimate"])
        assert sum(group["num_questions"] for group in loss["groups"]) == report["num_examples"]["test"]
    shown = {one["id"] for one in retrieval["passages"]}
    for row in report["rows"]:
        assert set(row["passages"]) == {"retrieval", "tuned_retrieval"}
        assert set(row["passages"]["retrieval"]) <= shown
    graders = {metric["grader"] for metric in report["contenders"][0]["metrics"]}
    assert "chrf" in graders
    page = (folder / "report.html").read_text()
    assert 'id="retrieval"' in page

    with closing(sqlite3.connect(fettle.home / "fettle.sqlite")) as store:
        attached = store.execute("select num_passages, method, abstention from model_indexes").fetchall()
    challenger = report["comparisons"][0]["challenger"]
    assert [row[1:] for row in attached] == ([("hybrid", ABSTENTION)] if challenger == "tuned_retrieval" else [])

    again = fettle(*command)
    assert comparable(load(folder)) == comparable(report), again.everything

    note = fettle.folder / "manual" / "zz.md"
    note.write_text("# Late news\n\nAll offices have moved.\n")
    changed = fettle(*command)
    require_refused(changed, "a study of other data")  # other documents, another study


def test_a_study_stands_on_an_index_that_was_made_before(fettle: Runner, tmp_path: Path) -> None:
    (fettle.folder / "manual" / "rows.jsonl").write_text((fettle.folder / "questions.jsonl").read_text())
    (fettle.folder / "manual" / "broken.pdf").write_text("%PDF-1.4 no more")
    read = fettle(*COMMAND, "--documents", "manual", "--out", tmp_path / "study", "--dry-run")
    assert "Documents, note: broken.pdf: " in read.everything  # the study goes on without it, and says so first
    made = fettle("index", "manual", "--name", "handbook", "--project", "sales")
    assert made.code == 0, made.everything
    command = (*COMMAND, "--index", "handbook", "--out", tmp_path / "study", "--dry-run")
    planned = fettle(*command, "--project", "sales")
    assert planned.code == 0, planned.everything
    assert "handbook (" in planned.everything
    assert "contenders with passages, one of them trained with them, take " in planned.everything
    assert "take about about" not in planned.everything
    assert "test questions, this one first, stand in the documents word for word" in planned.everything
    require_refused(fettle(*command), "no index called 'handbook' in the project 'default'", "--project")


def test_documents_that_cannot_be_used_are_refused(fettle: Runner, tmp_path: Path) -> None:
    empty = fettle.folder / "nothing"
    empty.mkdir()
    out = tmp_path / "study"
    require_refused(fettle(*COMMAND, "--documents", "nothing", "--out", out), "the folder is empty")
    require_refused(
        fettle(*COMMAND, "--index", "nobody", "--out", out), "there is no index called 'nobody'", "fettle index"
    )
    require_refused(fettle(*COMMAND, "--index", "a", "--documents", "manual", "--out", out), "exclude each other")
    require_refused(fettle(*COMMAND, "--passage-tokens", "100", "--out", out), "none are named", "--documents")
    assert not out.exists()
