"""`fettle judge` in a process of its own, killed while it waits for replies."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

from command import Runner

from build_report import text_report
from fettle.study.report import write_report
from local_endpoint import Reply, completion, endpoint


def test_a_judge_killed_in_the_middle_asks_only_for_what_is_missing(fettle: Runner, tmp_path: Path) -> None:
    study = tmp_path / "study"
    write_report(text_report(num_rows=20), study)
    go_on, lock, num_replied = threading.Event(), threading.Lock(), 0

    def answer(body: dict[str, Any], _number: int) -> Reply:
        nonlocal num_replied
        if body["messages"][-1]["content"] == "Hi":
            return completion("hi")
        with lock:
            num_replied += 1
            waits = num_replied > 16
        if waits:
            go_on.wait(120)
        return completion(json.dumps({"verdict": "tie", "reason": "Both are alike."}))

    replies = study / "judging" / "replies.jsonl"
    with endpoint(answer) as served:
        words = ("judge", study, "--endpoint", served.url, "--model", "m")
        command = fettle.start(*words)
        assert command.wait_until(lambda: len(served.requests) == 1 + 16 + 8), "the third batch waits for its replies"
        assert replies.read_text().count("\n") == 16
        command.kill()
        go_on.set()
        assert not (study / "judged.json").exists()
        num_before = len(served.requests)
        finished = fettle(*words)
        asked = [json.dumps(request["messages"]) for request in served.requests[num_before:]]
    assert finished.code == 4, finished.everything
    assert "calls nearly everything a tie" in finished.everything
    assert len(asked) == 1 + 24, "the greeting, and what was missing"
    assert replies.read_text().count("\n") == 40
    assert "Replies: 40 readable" in finished.everything
