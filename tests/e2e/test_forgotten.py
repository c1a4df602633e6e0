"""A study that looks for what was forgotten: asked of both models, kept, and told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command import Runner
from reports import load
from studies import WHOLE_STUDY, require_refused

from fettle.forgetting.items import general_suite
from fettle.study.settings import STRENGTHS


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Examples of what must still work."""
    file = tmp_path_factory.mktemp("own") / "own.jsonl"
    rows = [{"prompt": f"Is {number} even?", "completion": ("yes", "no")[number % 2]} for number in range(10)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def test_a_study_says_what_was_forgotten(fettle: Runner, own: Path, tmp_path: Path) -> None:
    command = (*WHOLE_STUDY, "--forgetting-budget", "7", "--must-still-work", own, "--out", tmp_path / "study")
    finished = fettle(*command)
    assert finished.code in (0, 3, 4), finished.everything
    assert "297 general questions and 10 examples of yours" in finished.out.replace("\u00a0", " ")
    report = load(tmp_path / "study")
    found = report["forgetting"]
    assert found["general"]["num_items"] == len(general_suite())
    assert sum(one["num_items"] for one in found["categories"]) == len(general_suite())
    assert (found["own"]["num_items"], found["budget_points"]) == (10, 7)
    assert found["divergence"]["nats"] > 0  # it was trained
    assert found["divergence"]["interval"]["low"] <= found["divergence"]["nats"]
    assert found["divergence"]["num_inputs"] == report["num_examples"]["valid"]
    assert "lost more than 7 points of the general suite, nor of the examples" in report["declaration"]
    assert sum(reason.startswith("What it still can") for reason in report["verdict"]["reasons"]) == 2
    assert 'id="forgetting"' in (tmp_path / "study" / "report.html").read_text()

    assert report["training"]["num_replayed_examples"] >= 1
    sweep = report["strength_sweep"]
    assert [point["strength"] for point in sweep["points"]] == list(STRENGTHS)
    assert sweep["num_examples"] == report["num_examples"]["valid"]
    chosen = next(point for point in sweep["points"] if point["strength"] == sweep["chosen"])
    assert chosen["general_change"] == found["general"]["change"]
    tuned = Path(report["training"]["tuned_path"])
    alpha = json.loads((tuned / "adapter_config.json").read_text())["lora_alpha"]
    assert alpha == 32 * sweep["chosen"]

    kept = {file.name: file.read_bytes() for file in (tmp_path / "study" / "answers" / "forgetting").iterdir()}
    assert set(kept) == {"base-own.jsonl", "inputs.jsonl"} | {
        f"tuned-{strength:g}{whose}.jsonl" for strength in STRENGTHS for whose in ("", "-own")
    }
    assert len(set(kept.values())) == len(kept)
    again = fettle(*command)
    assert again.code == finished.code
    assert load(tmp_path / "study")["forgetting"] == found
    assert {file.name: file.read_bytes() for file in (tmp_path / "study" / "answers" / "forgetting").iterdir()} == kept


@pytest.mark.long
def test_all_weights_can_forget_too(fettle: Runner, tmp_path: Path) -> None:
    finished = fettle(*WHOLE_STUDY, "--method", "full", "--out", tmp_path / "study")
    assert finished.code in (0, 3, 4), finished.everything
    found = load(tmp_path / "study")["forgetting"]
    assert found["divergence"]["nats"] > 0
    assert found["own"] is None


def test_examples_that_are_not_there_are_refused_before_anything_is_answered(fettle: Runner, tmp_path: Path) -> None:
    missing = tmp_path / "none.jsonl"
    require_refused(fettle(*WHOLE_STUDY, "--must-still-work", missing, "--out", tmp_path / "study"), str(missing))
    assert not (tmp_path / "study").exists()
