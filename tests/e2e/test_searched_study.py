"""A study that searches its settings and draws a learning curve: what was tried is recorded, and goes on after a kill."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command import Runner
from reports import comparable, load
from studies import LABEL_STUDY, require_refused

COMMAND = (*LABEL_STUDY, "--search", "4", "--learning-curve")


@pytest.mark.long
def test_settings_are_searched_and_the_curve_is_drawn(fettle: Runner, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    finished = fettle(*COMMAND, "--out", folder)
    assert finished.code in (0, 3, 4), finished.everything
    report = load(folder)
    search = report["settings_search"]
    assert [trial["number"] for trial in search["trials"]] == [1, 2, 3, 4]
    assert [len(trial["results"]) for trial in search["trials"]].count(2) == 2  # the better half went on
    chosen = search["trials"][search["chosen"] - 1]
    assert len(chosen["results"]) == 2
    assert report["training"]["settings"]["learning_rate"] == chosen["learning_rate"]
    assert report["training"]["settings"]["epochs"] == chosen["epochs"]
    assert report["training"]["settings"]["lora_rank"] == chosen["rank"]
    adapter = json.loads((Path(report["training"]["tuned_path"]) / "adapter_config.json").read_text())
    assert adapter["r"] == chosen["rank"]
    assert search["trials"][0]["epochs"] == 4  # what was given is among them

    curve = report["learning_curve"]
    num_train = report["num_examples"]["train"]
    assert [point["num_examples"] for point in curve["points"]] == [round(part * num_train) for part in (0.25, 0.5, 1)]
    tuned = next(one for one in report["contenders"] if one["name"] == "tuned")
    assert curve["points"][-1]["score"]["estimate"] == tuned["metrics"][0]["interval"]["estimate"]
    page = (folder / "report.html").read_text()
    assert 'id="learning-curve"' in page
    assert "Settings that were tried" in page

    trials = folder / "training" / "search" / "trials.jsonl"
    kept = trials.read_bytes()
    again = fettle(*COMMAND, "--out", folder)
    assert comparable(load(folder)) == comparable(report), again.everything
    assert trials.read_bytes() == kept
    trials.write_bytes(kept[: len(kept) // 2])  # as a kill in the middle of a line leaves it
    assert fettle(*COMMAND, "--out", folder).code == finished.code
    assert [{**trial, "results": None} for trial in load(folder)["settings_search"]["trials"]] == [
        {**trial, "results": None} for trial in search["trials"]
    ]


def test_what_does_not_go_together_is_refused(fettle: Runner, tmp_path: Path) -> None:
    out = tmp_path / "study"
    divided = fettle(*LABEL_STUDY, "--search", "4", "--shard", "--processes", "2", "--out", out)
    require_refused(divided, "a divided model answers too slowly", "leave them out")
    assert not out.exists()
