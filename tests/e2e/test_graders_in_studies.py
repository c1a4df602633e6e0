"""Studies that graders of the user's own decide: code in the sandbox, a formula, a model behind an endpoint."""

from __future__ import annotations

import json
import re
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from command import Runner
from reports import comparable, load, require_consistent
from studies import require_refused
from test_tasks import require_whole

from local_endpoint import Reply, completion, endpoint, failure
from sandboxes import sandbox

OPTIONS = ("--model", "model", "--epochs", "1", "--no-forgetting", "--replay", "0")
STUDY = ("study", "text.jsonl", *OPTIONS)
WORDS_IN_COMMON = """
import random

def grade(sample, item):
    said, wanted = set(sample["output_text"].split()), set(item["reference_answer"].split())
    return random.uniform(0.99, 1.0) * len(said & wanted) / max(1, len(said | wanted))
"""
SCORE_MODEL = {
    "type": "score_model",
    "name": "Helpful reply",
    "model": "judge",
    "range": [1, 5],
    "input": [{"role": "user", "content": "{{ item.input }}\n---\n{{ sample.output_text }}"}],
}


def written(folder: Path, name: str, value: Any) -> Path:
    file = folder / name
    file.write_text(json.dumps(value))
    return file


def graded(value: float) -> Reply:
    return completion(json.dumps({"steps": [], "result": value}))


def judged(body: dict[str, Any]) -> str:
    """What a grading request is about, or the greeting."""
    return body["messages"][-1]["content"]


def helpful(body: dict[str, Any], _number: int) -> Reply:
    """More for longer answers that start as they should."""
    said = judged(body).partition("\n---\n")[2]
    return graded(5 if said.startswith("Dear customer") else 1 + len(said) % 3)


def metrics_of(report: Any, grader: str) -> dict[str, Any]:
    return {c["name"]: m for c in report["contenders"] for m in c["metrics"] if m["grader"] == grader}


def test_decided_by_code_of_the_user(fettle: Runner, tmp_path: Path) -> None:
    sandbox()
    python = written(tmp_path, "common.json", {"type": "python", "source": WORDS_IN_COMMON})
    folder = tmp_path / "study"
    words = (*STUDY, "--grader", python, "--grader", "house_style", "--out", folder)
    finished = fettle(*words)
    report = require_whole(finished, folder)
    assert report["primary_metric"] == "common"
    assert "in mean common on" in report["declaration"]
    first, second = report["graders"]
    assert (first["name"], first["kind"], first["file"], first["decides"]) == ("common", "python", "common.json", True)
    assert first["wanted_mean"] > 0.98
    assert (second["name"], second["kind"], second["decides"]) == ("house_style", "built-in", False)
    for name in ("house_style", "chrf"):
        assert metrics_of(report, name).keys() == metrics_of(report, "common").keys(), "shown for every contender"
    assert (
        f"Grader: common (python of common.json), decides; gives {first['num_wanted']} wanted answers"
        in finished.everything
    )
    page = (folder / "report.html").read_text()
    assert "Grader that decides" in page
    assert "common (python of " in page
    # Code that rolls dice says the same of the same answer everywhere, and when the study goes on.
    require_consistent(report)
    kept = (folder / "grading" / "outcomes.jsonl").read_bytes()
    (folder / "report.json").unlink()
    fettle(*words)
    assert comparable(load(folder)) == comparable(report)
    assert (folder / "grading" / "outcomes.jsonl").read_bytes() == kept
    # A changed grader is another study.
    written(tmp_path, "common.json", {"type": "python", "source": WORDS_IN_COMMON + "\n# stricter"})
    require_refused(fettle(*words), "the folder holds a study of other data or with other settings")


def test_decided_by_a_formula(fettle: Runner, tmp_path: Path) -> None:
    queue = {
        "type": "string_check",
        "input": "{{ sample.output_json.queue }}",
        "reference": "billing",
        "operation": "eq",
    }
    near = {"type": "text_similarity", "input": "{{ sample.output_text }}", "reference": "{{ item.answer }}"}
    graders = {"queue": queue, "near": near | {"evaluation_metric": "fuzzy_match"}}
    multi = {"type": "multi", "name": "near enough", "graders": graders, "calculate_output": "0.1 * queue + 0.9 * near"}
    folder = tmp_path / "study"
    finished = fettle(
        "study", "json.jsonl", *OPTIONS, "--out", folder,
        "--grader", written(tmp_path, "multi.json", multi),
    )  # fmt: skip
    report = require_whole(finished, folder)
    assert report["primary_metric"] == "near enough"
    (grader,) = report["graders"]
    assert 0.9 < grader["wanted_mean"] < 1, "a third of the wanted queues are billing"
    valid = metrics_of(report, "json_valid")
    assert valid.keys() == {contender["name"] for contender in report["contenders"]}, "validity is shown beside it"
    assert all(0 <= one["interval"]["low"] <= one["interval"]["high"] <= 1 for one in valid.values())
    assert "JSON valid by its schema" in (folder / "report.html").read_text()


def test_a_grading_model_is_asked_nothing_twice(fettle: Runner, tmp_path: Path) -> None:
    folder, grader = tmp_path / "study", written(tmp_path, "helpful.json", SCORE_MODEL)
    replies = folder / "grading" / "replies.jsonl"
    go_on, lock, num_replied = threading.Event(), threading.Lock(), 0

    def answer(body: dict[str, Any], number: int) -> Reply:
        nonlocal num_replied
        if judged(body) != "Hi":
            with lock:
                num_replied += 1
                waits = num_replied > 40
            if waits:
                go_on.wait(120)
        return helpful(body, number)

    with endpoint(answer) as served:
        address = served.url.replace("http://", "http://user:pw123@")
        words = (*STUDY, "--grader", grader, "--grader-url", address, "--grader-prices", 1, 2, "--out", folder)
        command = fettle.start(*words)
        assert command.wait_until(lambda: num_replied >= 41), "it asks for more than 40 replies"
        command.kill()
        num_kept = replies.read_bytes().count(b"\n")
        assert num_kept > 8
        go_on.set()
        num_before = len(served.requests)
        finished = fettle(*words)
        asked = Counter(judged(body) for body in served.requests[num_before:])
        report = require_whole(finished, folder)
        assert set(asked.values()) == {1}, "in one run"
        kept = [json.loads(line) for line in replies.read_text().splitlines()]
        assert len(asked) - asked["Hi"] == len(kept) - num_kept, "what was kept before the kill was not asked for again"
        assert len({row["key"] for row in kept}) == len(kept)
        # All is there: the endpoint is not needed any more.
        (folder / "report.json").unlink()
    finished = fettle(*words)
    assert comparable(load(folder)) == comparable(report)
    (used,) = load(folder)["graders"]
    assert (used["name"], used["kind"], used["decides"], used["wanted_mean"]) == (
        "Helpful reply",
        "score_model",
        True,
        1.0,
    )
    (model,) = used["models"]
    assert (model["model"], model["address"]) == ("judge", served.url)
    assert model["price"] == pytest.approx((7 + 2 * 3) * len(kept) / 1e6)
    assert (model["num_replies"], model["prompt_tokens"], model["completion_tokens"]) == (
        len(kept),
        7 * len(kept),
        3 * len(kept),
    )
    assert f"Grading: judge at {served.url} gave {len(kept)} replies:" in finished.everything
    assert "at a cost of" in (folder / "report.html").read_text()
    for file in (folder / "report.json", folder / "report.html", folder / "declaration.json", replies):
        assert "pw123" not in file.read_text()


def test_an_endpoint_that_fails_on_some_answers_leaves_them_unscored_and_is_asked_again(
    fettle: Runner, tmp_path: Path
) -> None:
    folder, grader = tmp_path / "study", written(tmp_path, "helpful.json", SCORE_MODEL)
    is_down = True

    def answer(body: dict[str, Any], number: int) -> Reply:
        fails = is_down and judged(body) != "Hi" and "Dear customer" not in judged(body)
        return failure(422, "overloaded") if fails else helpful(body, number)

    with endpoint(answer) as served:
        words = (*STUDY, "--grader", grader, "--grader-url", served.url, "--out", folder)
        finished = fettle(*words)
        assert finished.code == 2, "no contender without fine-tuning but the constant answer could be scored"
        assert "no answer to the validation split could be scored" in finished.everything
        is_down = False
        finished = fettle(*words)
    report = require_whole(finished, folder)
    assert all(contender["metrics"][0]["num_unscored"] == 0 for contender in report["contenders"])


def test_a_grader_that_always_fails_is_told_before_anything_is_answered(fettle: Runner, tmp_path: Path) -> None:
    sandbox()
    python = written(
        tmp_path, "wrong.json", {"type": "python", "source": "def grade(sample, item):\n    return item['gold']"}
    )
    out = tmp_path / "study"
    finished = fettle(*STUDY, "--grader", python, "--out", out)
    require_refused(
        finished,
        "examples cannot be scored by wrong",
        "KeyError: 'gold' (line 2 of its source)",
        "name another --grader",
    )
    assert not out.exists()
    refusing = written(tmp_path, "helpful.json", SCORE_MODEL)
    with endpoint(lambda body, _: graded(1) if judged(body) == "Hi" else completion("I would rather not.")) as served:
        finished = fettle(*STUDY, "--grader", refusing, "--grader-url", served.url, "--out", out)
    require_refused(finished, "9 of 9 validation examples cannot be scored by Helpful reply", "answer cannot be read")
    assert not (out / "answers").exists()


def test_a_grader_that_calls_wanted_answers_wrong_is_told_before_anything_is_answered(
    fettle: Runner, tmp_path: Path
) -> None:
    check = {"type": "string_check", "name": "short", "input": "{{sample.output_text}}", "reference": "Madam"}
    never = written(tmp_path, "never.json", check | {"operation": "like"})
    out = tmp_path / "study"
    finished = fettle(*STUDY, "--grader", never, "--out", out)
    require_refused(finished, "short gives each of the 9 wanted validation answers a score of 0", "mend the grader")
    assert not out.exists()
    rarely = written(tmp_path, "rarely.json", check | {"operation": "like", "reference": "billing"})
    finished = fettle(*STUDY, "--grader", rarely, "--dry-run", "--out", out)
    assert finished.code == 0, finished.everything
    assert re.search(
        r"The grader short gives the wanted answers themselves only \d\d\.\d % on average", finished.everything
    )


@pytest.mark.parametrize("is_dry", [False, True])
@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("a.json", '{"type": "string_check",\n "name" 3}', ("a.json:2: a grader is JSON, and this is not", "mend the JSON")),
        ("b.json", '{"type": "string_chek"}', ("b.json: grader.type: there is no grader of type", "did you mean 'string_check'?")),
        ("c.json", json.dumps(SCORE_MODEL), ("c.json: this grader asks the model 'judge', and no endpoint", "give --grader-url")),
        ("d.json", json.dumps(SCORE_MODEL | {"range": [5, 1]}), ("d.json: grader.range: the range goes from 5 to 1",)),
        ("gone.json", None, ("gone.json: there is no such file", "check the path")),
        ("exact_labels", None, ("there is no grader called 'exact_labels', and no file", "did you mean 'exact_label'?")),
    ],
)  # fmt: skip
def test_a_grader_that_is_none_is_refused_with_its_place(
    fettle: Runner, tmp_path: Path, name: str, text: str | None, told: tuple[str, ...], is_dry: bool
) -> None:
    file = Path(name)
    if text is not None:
        file = tmp_path / name
        file.write_text(text)
    out = tmp_path / "study"
    finished = fettle(*STUDY, "--grader", file, *(["--dry-run"] if is_dry else []), "--out", out)
    require_refused(finished, *told)
    assert not out.exists()


def test_an_endpoint_that_is_not_there_leaves_nothing_behind(fettle: Runner, tmp_path: Path) -> None:
    grader, out = written(tmp_path, "helpful.json", SCORE_MODEL), tmp_path / "study"
    finished = fettle(*STUDY, "--grader", grader, "--grader-url", "http://127.0.0.1:9/v1", "--out", out)
    require_refused(finished, "http://127.0.0.1:9/v1: the endpoint does not answer for model 'judge'", "--grader-url")
    assert not out.exists()
    dry = fettle(
        *STUDY, "--grader", grader, "--grader-url", "http://me:pw123@127.0.0.1:9/v1", "--dry-run", "--out", out
    )
    assert dry.code == 0, "a plan asks nobody"
    told = "Grader: Helpful reply (score_model of helpful.json), decides; asks judge at http://127.0.0.1:9/v1 about every answer"
    assert told in dry.everything
    assert "pw123" not in dry.everything
    finished = fettle(*STUDY, "--grader", grader, "--grader-url", "ftp://x", "--out", out)
    require_refused(finished, "--grader-url: expected the address of an endpoint")
