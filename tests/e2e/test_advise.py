"""`fettle advise` before a run and after a study, as a user types it; the model is tiny, the probes are the real ones."""

from __future__ import annotations

import json
from pathlib import Path

from command import Runner
from studies import Study
from tiny import label_file


def test_before_a_run_it_measures_and_advises_without_training(fettle: Runner, tmp_path: Path) -> None:
    page = tmp_path / "advice.html"
    words = ("advise", "labels.csv", "--model", "model", "--knowledge-changes", "no", "--large-model", "yes")
    words += ("--requests-per-day", 500, "--cost-per-wrong-answer", 0.5, "--latency-seconds", 600)
    found = fettle(*words, "--html", page)
    assert found.code == 0, found.everything
    for text in (
        "The ladder",
        "Try first Classifier, no language model",
        "the same answer to every message:",
        "does the knowledge change: no",
        "fewer wrong answers with which tuning has paid for itself:",
        "one answer of the model as it is, asked alone:",
        "fettle study labels.csv --model model",
    ):
        assert text in found.out
    assert "What to try" in page.read_text()
    assert not (fettle.home / "studies").exists()


def test_the_same_seed_gives_the_same_advice_as_json(fettle: Runner) -> None:
    words = ("advise", "labels.csv", "--model", "model", "--no-timing", "--json")
    found = [fettle(*words) for _ in range(2)]
    assert [one.code for one in found] == [0, 0], found[0].everything
    assert found[0].out == found[1].out
    document = json.loads(found[0].out)
    assert document["format"] == "fettle-advice"
    assert [one["rung"] for one in document["rungs"]][:3] == ["prompt", "few_shot", "classifier"]
    assert all(reason["rests_on"] for one in document["rungs"] for reason in (*one["reasons"], *one["against"]))
    plan = fettle("study", "labels.csv", "--model", "model", "--dry-run")
    assert f"Split: {document['sizes']}" in " ".join(plan.out.split()), "advice and study see one split"


def test_after_a_study_it_reads_the_report(fettle: Runner, label_study: Study) -> None:
    for place in (label_study.folder, label_study.folder / "report.json", label_study.folder / "report.html"):
        found = fettle("advise", place)
        assert found.code == 0, found.everything
        assert "[verdict.decision]" in found.out
    assert json.loads(fettle("advise", label_study.folder, "--json").out)["steps"][0]["reasons"][0]["rests_on"]


def test_mistakes_are_told(fettle: Runner, label_study: Study, tmp_path: Path) -> None:
    answers = tmp_path / "answers.toml"
    answers.write_text("latency = 2\n")
    few = label_file(tmp_path / "few.csv", 3)
    for words, text in (
        (("advise", tmp_path / "none.csv"), "no such file"),
        (("advise", few, "--model", "model"), "at least"),
        (("advise", "labels.csv", "--model", "model", "--answers", answers), "did you mean `latency_seconds`"),
        (("advise", "labels.csv", "--model", "model", "--requests-per-day", -1), "expected a number above 0"),
        (("advise", label_study.folder, "--requests-per-day", 5), "from its report alone"),
    ):
        found = fettle(*words)
        assert found.code == 2, found.everything
        assert text in " ".join(found.everything.split())
