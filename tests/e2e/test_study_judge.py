"""A study that ends with its judge: asked once, kept apart from the verdict, and no loss to the study when it fails."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from command import Runner
from reports import load
from studies import require_refused

from local_endpoint import Reply, completion, endpoint, failure

FIRST = json.dumps({"verdict": "first", "reason": "It comes first."})


def test_the_judge_comes_after_the_study_and_can_go_on_alone(fettle: Runner, tmp_path: Path) -> None:
    folder, is_down = tmp_path / "study", True
    rubric = tmp_path / "what counts.txt"
    rubric.write_text("The right label.")

    def answer(body: dict[str, Any], _number: int) -> Reply:
        if body["messages"][-1]["content"] == "Hi":
            return completion("hi")
        return failure(400, "out of order") if is_down else completion(FIRST)

    with endpoint(answer) as served:
        study = (
            "study", "labels.csv", "--model", "model", "--epochs", 1, "--out", folder,
            "--judge-url", served.url.replace("http://", "http://user:pw123@"), "--judge-model", "judge-1",
            "--rubric", rubric,
        )  # fmt: skip
        first = fettle(*study)
        assert first.code in (0, 3, 4), first.everything
        report = load(folder)
        assert "The study is finished and stands as it is, but its judge is not done" in first.everything
        assert not (folder / "judged.json").exists()
        is_down = False
        [told] = [line for line in first.everything.splitlines() if "goes on with the judge alone: " in line]
        words = shlex.split(told.partition("alone: ")[2].partition(" What next: ")[0])
        assert words[:2] == ["fettle", "judge"]
        alone = fettle(*words[1:])
        assert alone.code == 4, alone.everything
        num_asked = len(served.requests)
        again = fettle(*study)
        assert len(served.requests) <= num_asked + 1, "nothing is judged twice"
    assert again.code == first.code, "the verdict is the study's own"
    assert "The judge: prefers whichever answer comes first" in again.everything
    assert load(folder)["verdict"] == report["verdict"]
    page = (folder / "report.html").read_text()
    assert "It prefers whichever answer comes first" in page
    assert "The right label." in page
    for file in folder.rglob("*.*"):
        assert not file.is_file() or b"pw123" not in file.read_bytes(), file


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--judge-url", "http://127.0.0.1:9/v1"), "--judge-url and --judge-model go together"),
        (("--judge-model", "m"), "--judge-url and --judge-model go together"),
        (("--rubric", "labels.csv"), "--rubric: there is no judge that could be told this"),
        (("--judge-url", "ftp://x", "--judge-model", "m"), "--judge-url: expected the address of an endpoint"),
        (("--judge-url", "http://127.0.0.1:9/v1", "--judge-model", "m", "--rubric", "nowhere.txt"), "nowhere.txt"),
    ],
)
def test_a_judge_that_cannot_be_asked_is_refused_before_the_study(
    fettle: Runner, tmp_path: Path, options: tuple[str, ...], problem: str
) -> None:
    finished = fettle("study", "labels.csv", "--model", "model", "--out", tmp_path / "study", *options)
    require_refused(finished, problem, "What to do:")
    assert not (tmp_path / "study").exists()
