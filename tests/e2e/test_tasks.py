"""One study of each kind of task, from the command line to the report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from command import Finished, Runner
from reports import comparable, load, require_consistent
from studies import LABEL_STUDY, TASK_ALONE, Study, require_refused
from tiny import label_file, reply_file

from fettle.study.report import read_report
from tiny_models import save_unknown_model

EXIT_CODES = {"ship": 0, "stay": 3, "cannot tell yet": 4}


def require_whole(finished: Finished, folder: Path) -> dict[str, Any]:
    """The command printed what its report says, and the report is whole; the report."""
    assert finished.code in EXIT_CODES.values(), finished.everything
    report = load(folder)
    read_report(folder / "report.json")
    require_consistent(report)
    page = (folder / "report.html").read_text()
    assert page.startswith("<!doctype html>")
    assert page.rstrip().endswith("</html>")
    assert finished.code == EXIT_CODES[report["verdict"]["decision"]], finished.everything
    assert str(folder / "report.html") in finished.out
    assert "were planned for all epochs" in finished.out
    assert "Traceback" not in finished.everything
    assert "Warning" not in finished.error
    assert [example["is_primary"] for example in report["comparisons"]].count(True) == 1
    assert report["provenance"]["num_test_looks"] == 1
    return report


def test_label_task(label_study: Study) -> None:
    report = require_whole(label_study.finished, label_study.folder)
    names = {contender["name"] for contender in report["contenders"]}
    assert names == {"tuned", "classifier", "constant", "prompt", "few_shot", "few_shot_nearest"}
    labels = set(report["task"]["labels"])
    assert all(set(row["answers"].values()) <= labels for row in report["rows"]), (
        "answers are constrained to the labels"
    )
    assert all(sum(map(sum, confusion["counts"])) == len(report["rows"]) for confusion in report["confusions"])
    for scores in report["part_scores"]:
        assert sum(part["num_wanted"] for part in scores["parts"]) == len(report["rows"])
        num_right = sum(row["scores"][scores["contender"]] for row in report["rows"])
        assert sum(part["num_right"] for part in scores["parts"]) == num_right
    # Word lists are easy for a classifier and nothing for random weights: staying is the right answer.
    assert report["verdict"]["decision"] == "stay"
    assert report["comparisons"][0]["baseline"] == "classifier"
    assert {path.name for path in label_study.folder.iterdir()} == {
        "study.json", ".lock", "answers", "training", "declaration.json", "report.json", "report.html"
    }  # fmt: skip
    assert not [path for path in label_study.folder.rglob(".*") if path.name != ".lock"], "no temporary file is left"


def test_all_weights(fettle: Runner, label_study: Study, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    finished = fettle(*LABEL_STUDY, "--method", "full", "--out", folder)
    report = require_whole(finished, folder)
    [tuned] = [contender for contender in report["contenders"] if contender["name"] == "tuned"]
    assert tuned["title"] == "Fine-tuned (all weights)"
    assert report["training"]["tuned_path"] == str(folder / "training" / "model")
    assert not [name for name in report["training"]["settings"] if name.startswith("lora")]
    assert (folder / "training" / "model" / "model.safetensors").is_file()
    assert {c["name"]: c["metrics"] for c in report["contenders"] if c["name"] != "tuned"} == {
        c["name"]: c["metrics"] for c in load(label_study.folder)["contenders"] if c["name"] != "tuned"
    }, "the base model answers as it does in any study"


def test_the_shape_of_an_adapter_goes_with_no_other_method(fettle: Runner, tmp_path: Path) -> None:
    finished = fettle(*LABEL_STUDY, "--method", "full", "--rank", "8", "--out", tmp_path / "study")
    require_refused(finished, "--method full trains none")
    assert not (tmp_path / "study").exists()


def test_json_task_in_an_interpreter_of_its_own(fettle: Runner, tmp_path: Path) -> None:
    finished = fettle.real(
        "study", "json.jsonl", "--model", "model", "--epochs", 6, "--batch-size", 4, "--learning-rate", 0.02,
        "--out", tmp_path / "study",
    )  # fmt: skip
    report = require_whole(finished, tmp_path / "study")
    assert report["task"]["kind"] == "json"
    assert report["confusions"] == []
    assert {one["name"] for one in report["contenders"]} == {
        "tuned", "constant", "prompt", "few_shot", "few_shot_nearest"
    }  # fmt: skip
    assert {scores["contender"] for scores in report["part_scores"]} == {one["name"] for one in report["contenders"]}
    assert [metric["grader"] for metric in report["contenders"][0]["metrics"]] == [
        "json_fields", "json_exact", "json_valid"
    ]  # fmt: skip
    assert (tmp_path / "study" / "training" / "adapter" / "adapter_model.safetensors").is_file()


@pytest.mark.long
def test_a_model_that_learned_the_replies_is_shipped(fettle: Runner, tmp_path: Path) -> None:
    finished = fettle(
        "study", reply_file(tmp_path / "replies.jsonl"), "--task", "text", "--model", "model", "--epochs", 16, *TASK_ALONE,
        "--batch-size", 4, "--learning-rate", 0.01, "--out", tmp_path / "study",
    )  # fmt: skip
    report = require_whole(finished, tmp_path / "study")
    assert report["verdict"]["decision"] == "ship"


@pytest.mark.long
def test_a_model_that_learned_the_usual_reply_alone_is_not_shipped(fettle: Runner, tmp_path: Path) -> None:
    finished = fettle(
        "study", "text.jsonl", "--model", "model", "--epochs", 8, "--batch-size", 4, "--learning-rate", 0.02,
        "--out", tmp_path / "study",
    )  # fmt: skip
    report = require_whole(finished, tmp_path / "study")
    assert report["comparisons"][0]["difference"]["low"] > 0
    assert report["verdict"]["decision"] != "ship"
    assert "answer that is always the same" in report["verdict"]["headline"]
    assert report["primary_metric"] == "chrf"
    assert report["length_histogram"] is not None
    assert any("were cut at the token limit" in warning for warning in report["warnings"])


def test_cannot_tell_where_the_test_split_is_too_small(fettle: Runner, tmp_path: Path) -> None:
    finished = fettle(
        "study", label_file(tmp_path / "few.csv", 24), "--model", "model", "--task", "text", "--out", tmp_path / "study"
    )
    report = require_whole(finished, tmp_path / "study")
    assert report["verdict"]["decision"] == "cannot tell yet"


def test_the_same_command_again_keeps_the_result_and_counts_no_second_look(fettle: Runner, label_study: Study) -> None:
    before = load(label_study.folder)
    finished = Runner(fettle.folder, label_study.folder.parent / "home")(*LABEL_STUDY, "--out", label_study.folder)
    assert finished.code == label_study.finished.code
    assert comparable(load(label_study.folder)) == comparable(before)


def test_an_absurd_learning_rate_is_a_result_and_no_fault(fettle: Runner, tmp_path: Path) -> None:
    finished = fettle(
        "study",
        "labels.csv",
        "--model",
        "model",
        "--epochs",
        1,
        "--learning-rate",
        1,
        "--precision",
        "exact",
        "--out",
        tmp_path / "study",
    )
    report = require_whole(finished, tmp_path / "study")
    assert report["verdict"]["decision"] == "stay"
    assert report["training"]["best_step"] > 0
    points = report["training"]["loss_points"]
    before, *after = [point["valid_loss"] for point in points if point["valid_loss"] is not None]
    warned = any("Training did not lower the validation loss" in warning for warning in report["warnings"])
    assert warned == (min(after) >= before)


@pytest.mark.long
@pytest.mark.parametrize("data", ["labels.csv", "json.jsonl"])
def test_a_model_of_a_class_that_packed_rows_do_not_fit(data: str, fettle: Runner, tmp_path: Path) -> None:
    model = save_unknown_model(tmp_path / "lfm2", "lfm2")
    words = [
        "study",
        data,
        "--model",
        model,
        "--epochs",
        2,
        "--batch-size",
        4,
        *TASK_ALONE,
        "--out",
        tmp_path / "study",
    ]
    finished = fettle(*words)
    report = require_whole(finished, tmp_path / "study")
    assert "run in the plain way, which is several times slower, because it has layers of another kind" in finished.out
    arms = [one["description"] for one in report["contenders"] if one["name"] not in ("classifier", "constant")]
    assert len(arms) == 4
    assert all("run in the plain way" in description for description in arms)
