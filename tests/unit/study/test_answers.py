from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from small_studies import Parrot, answer, example, telling

from fettle.errors import IntegrityError
from fettle.files import read_json_lines
from fettle.records import FinishReason
from fettle.study.answers import answer_split, measure_latency
from fettle.study.progress import SilentListener, Stage

EXAMPLES = tuple(example(number) for number in range(8))
TEXTS = tuple(f"answer {number}" for number in range(8))


class Stages(SilentListener):
    def __init__(self) -> None:
        self.done: list[int] = []

    def on_stage(self, stage: Stage) -> None:
        assert stage.num_total == len(EXAMPLES)
        self.done.append(stage.num_done)


def answered(contender: Parrot, file: Path) -> list[str]:
    found = answer_split(contender, EXAMPLES, file=file, what="test", listener=SilentListener())
    assert [one.example_id for one in found] == [one.id for one in EXAMPLES]
    return [one.text for one in found]


def test_answers_come_in_the_order_of_the_examples_and_are_told_batch_by_batch(tmp_path: Path) -> None:
    listener = Stages()
    found = answer_split(telling(EXAMPLES, TEXTS), EXAMPLES, file=tmp_path / "a.jsonl", what="test", listener=listener)
    assert tuple(one.text for one in found) == TEXTS
    assert listener.done == [0, 3, 6, 8]


def test_everything_of_an_answer_survives_the_file(tmp_path: Path) -> None:
    told = {one.id: answer(one.id, "é\n\u2028", likelihoods={"a": -0.1, "b": -2.5}) for one in EXAMPLES}
    told["e3"] = answer("e3", "", finish_reason=FinishReason.ERROR)
    first = answer_split(Parrot(told), EXAMPLES, file=tmp_path / "a", what="test", listener=SilentListener())
    silent = Parrot(told, fails_after=0)
    assert answer_split(silent, EXAMPLES, file=tmp_path / "a", what="test", listener=SilentListener()) == first


def test_a_kill_costs_one_batch(tmp_path: Path) -> None:
    file = tmp_path / "answers.jsonl"
    with pytest.raises(KeyboardInterrupt):
        answered(replace(telling(EXAMPLES, TEXTS), fails_after=2), file)
    resumed = telling(EXAMPLES, TEXTS)
    assert answered(resumed, file) == list(TEXTS)
    assert resumed.asked == [["e1", "e0"]]


@pytest.mark.parametrize("num_bytes_lost", [1, 40, 250, 400])
def test_a_batch_that_was_cut_while_it_was_written_is_asked_again_whole(tmp_path: Path, num_bytes_lost: int) -> None:
    file = tmp_path / "answers.jsonl"
    answered(telling(EXAMPLES, TEXTS), file)
    file.write_bytes(file.read_bytes()[:-num_bytes_lost])
    resumed = telling(EXAMPLES, TEXTS)
    assert answered(resumed, file) == list(TEXTS)
    whole = [["e7", "e6", "e5"], ["e4", "e3", "e2"], ["e1", "e0"]]
    assert resumed.asked == whole[-len(resumed.asked) :], "the batches are those of an uninterrupted run"
    assert {row["example_id"] for row in read_json_lines(file)[1:]} == {one.id for one in EXAMPLES}


def test_answers_of_another_contender_or_split_are_thrown_away(tmp_path: Path) -> None:
    file = tmp_path / "answers.jsonl"
    answered(telling(EXAMPLES, TEXTS), file)
    others = tuple(reversed(TEXTS))
    assert answered(telling(EXAMPLES, others, words="another adapter"), file) == list(others)
    fewer = telling(EXAMPLES, TEXTS, words="another adapter")
    found = answer_split(fewer, EXAMPLES[:2], file=file, what="test", listener=SilentListener())
    assert [one.text for one in found] == list(TEXTS[:2])


def test_an_example_without_answer_stops_the_study(tmp_path: Path) -> None:
    parrot = telling(EXAMPLES[:-1], TEXTS[:-1])
    with pytest.raises(IntegrityError, match="parrot left 1 examples without an answer, the first is e7"):
        answered(parrot, tmp_path / "answers.jsonl")


def test_latency_is_measured_once_and_one_request_at_a_time(tmp_path: Path) -> None:
    many = tuple(example(number) for number in range(30))
    parrot = telling(many, [""] * 30)
    first = measure_latency(parrot, many, file=tmp_path / "latency.jsonl")
    assert len(first) == 20
    assert parrot.asked == [[one.id] for one in many[:20]]
    assert measure_latency(Parrot({}), many, file=tmp_path / "latency.jsonl") == first
