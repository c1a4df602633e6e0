"""What a model or a user's code has said is not asked for again, in this run or the next."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path

from fettle.progress import SilentListener, Stage
from fettle.records import Message
from fettle.scoring.kept_services import KeptRunner, KeptSampler
from fettle.scoring.openai_grader import Question, Reply, SamplingParams, TokenUsage
from fettle.scoring.sandbox.code_runner import CodeCall, CodeFault, CodeOutcome

SOURCE = "def grade(sample, item): return 1"


class Model:
    """Says a random number to everything, and fails where it is told to."""

    def __init__(self, *, failing: Sequence[str] = ()) -> None:
        self.asked: list[list[str]] = []
        self.failing = failing

    def knows(self, model: str) -> bool:
        return True

    def ask(self, questions: Sequence[Question]) -> Sequence[Reply]:
        texts = [question.messages[0].content for question in questions]
        self.asked.append(texts)
        usage = TokenUsage(prompt_tokens=5, completion_tokens=2)
        return [
            Reply(text="", error="HTTP 500") if text in self.failing else Reply(text=str(random.random()), usage=usage)
            for text in texts
        ]


class Dice:
    """Code that says another number each time; `"raise"` fails, and `"broken"` is a sandbox that does not start."""

    def __init__(self) -> None:
        self.num_calls = 0
        self.is_broken = True

    def unavailable_because(self) -> str | None:
        return None

    def run(self, source: str, calls: Sequence[CodeCall]) -> tuple[CodeOutcome, ...]:
        self.num_calls += len(calls)
        return tuple(self._outcome(call.sample["output_text"]) for call in calls)

    def _outcome(self, text: str) -> CodeOutcome:
        if text == "raise":
            return CodeOutcome(value=None, fault=CodeFault.CODE, details="ValueError: no")
        if text == "broken" and self.is_broken:
            return CodeOutcome(value=None, fault=CodeFault.SERVER, details="no sandbox")
        return CodeOutcome(value=random.random())


class Watcher(SilentListener):
    def __init__(self) -> None:
        self.stages: list[Stage] = []

    def on_stage(self, stage: Stage) -> None:
        self.stages.append(stage)


def question(text: str, **params: float) -> Question:
    told = SamplingParams(temperature=params.get("temperature"))
    return Question(model="judge", messages=(Message(role="user", content=text),), json_schema="{}", params=told)


def call(text: str, **more: object) -> CodeCall:
    return CodeCall(sample={"output_text": text, "output_json": None} | more, item={"answer": "a"})


def kept(model: Model, file: Path, *, address: str = "http://here/v1", listener: SilentListener | None = None):
    return KeptSampler(model, file, address=address, listener=listener or SilentListener())


def test_a_question_is_asked_once_and_eight_at_a_time(tmp_path: Path) -> None:
    model, watcher = Model(), Watcher()
    sampler = kept(model, tmp_path / "replies.jsonl", listener=watcher)
    questions = [question(str(number % 10)) for number in range(30)]
    replies = sampler.ask(questions)
    assert [len(some) for some in model.asked] == [8, 2]
    assert [reply.text for reply in replies] == [replies[number % 10].text for number in range(30)]
    assert [(stage.num_done, stage.num_total) for stage in watcher.stages] == [(8, 10), (10, 10)]
    assert sampler.ask(questions) == replies
    assert len(model.asked) == 2


def test_the_next_run_finds_the_replies_of_the_last_and_what_they_took(tmp_path: Path) -> None:
    file = tmp_path / "grading" / "replies.jsonl"
    first = kept(Model(), file).ask([question("a"), question("b")])
    again = Model()
    sampler = kept(again, file)
    assert list(sampler.ask([question("b"), question("a"), question("c")]))[:2] == [first[1], first[0]]
    assert again.asked == [["c"]]
    (took,) = sampler.took()
    assert (took.model, took.address, took.num_replies) == ("judge", "http://here/v1", 3)
    assert (took.prompt_tokens, took.completion_tokens) == (15, 6)
    assert took.seconds >= 0


def test_a_line_cut_by_a_kill_is_asked_again(tmp_path: Path) -> None:
    file = tmp_path / "replies.jsonl"
    kept(Model(), file).ask([question("a"), question("b")])
    file.write_bytes(file.read_bytes()[:-10])
    again = Model()
    kept(again, file).ask([question("a"), question("b")])
    assert again.asked == [["b"]]


def test_another_address_or_other_parameters_are_another_question(tmp_path: Path) -> None:
    file, model = tmp_path / "replies.jsonl", Model()
    kept(model, file).ask([question("a"), question("a", temperature=0.5)])
    kept(model, file, address="http://there/v1").ask([question("a")])
    assert model.asked == [["a", "a"], ["a"]]


def test_a_failed_request_is_not_kept_and_not_repeated_in_the_same_run(tmp_path: Path) -> None:
    file, model = tmp_path / "replies.jsonl", Model(failing=["b"])
    sampler = kept(model, file)
    for _ in range(2):
        assert [reply.error for reply in sampler.ask([question("a"), question("b")])] == [None, "HTTP 500"]
    assert model.asked == [["a", "b"]]
    again = Model()
    assert all(reply.error is None for reply in kept(again, file).ask([question("a"), question("b")]))
    assert again.asked == [["b"]]


def test_code_that_rolls_dice_is_run_once(tmp_path: Path) -> None:
    dice, file = Dice(), tmp_path / "outcomes.jsonl"
    first = KeptRunner(dice, file).run(SOURCE, [call("a"), call("b"), call("a")])
    assert dice.num_calls == 2
    assert first[0] == first[2] != first[1]
    assert KeptRunner(dice, file).run(SOURCE, [call("b"), call("a")]) == (first[1], first[0])
    assert dice.num_calls == 2
    KeptRunner(dice, file).run(SOURCE + "\n", [call("a")])
    assert dice.num_calls == 3, "other code is run"


def test_what_the_code_failed_at_is_kept_and_what_the_sandbox_failed_at_is_not(tmp_path: Path) -> None:
    dice, file = Dice(), tmp_path / "outcomes.jsonl"
    runner = KeptRunner(dice, file)
    for _ in range(2):
        failed, broken = runner.run(SOURCE, [call("raise"), call("broken")])
        assert (failed.fault, failed.details) == (CodeFault.CODE, "ValueError: no")
        assert broken.fault is CodeFault.SERVER
    assert dice.num_calls == 2
    dice.is_broken = False
    failed, mended = KeptRunner(dice, file).run(SOURCE, [call("raise"), call("broken")])
    assert (failed.fault, mended.fault, dice.num_calls) == (CodeFault.CODE, None, 3)


def test_an_answer_that_is_json_with_an_infinite_number_can_be_kept(tmp_path: Path) -> None:
    (found,) = KeptRunner(Dice(), tmp_path / "o.jsonl").run(SOURCE, [call("1e999", output_json=float("inf"))])
    assert found.value is not None
    assert len([json.loads(line) for line in (tmp_path / "o.jsonl").read_text().splitlines()]) == 1
