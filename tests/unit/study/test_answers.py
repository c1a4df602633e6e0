from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from small_studies import Parrot, answer, example, telling

from fettle.errors import IntegrityError
from fettle.files import read_json_lines
from fettle.progress import SilentListener, Stage
from fettle.records import Answer, Example, FinishReason
from fettle.study.answers import answer_split, measure_latency, was_asked

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
    told["e3"] = answer("e3", "", finish_reason=FinishReason.LENGTH)
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


def failing(*ids: str) -> Parrot:
    """A parrot whose requests about these examples fail."""
    parrot = telling(EXAMPLES, TEXTS)
    failed = {one: answer(one, "", finish_reason=FinishReason.ERROR) for one in ids}
    return replace(parrot, answers={**parrot.answers, **failed})


def test_failed_requests_and_no_others_are_asked_again(tmp_path: Path) -> None:
    file = tmp_path / "answers.jsonl"
    assert answered(failing("e1", "e6", "e7"), file)[1] == ""
    healthy = telling(EXAMPLES, TEXTS)
    assert answered(healthy, file) == list(TEXTS)
    assert healthy.asked == [["e7", "e6"], ["e1"]]
    assert answered(telling((), ()), file) == list(TEXTS), "the newest line about an example counts"


def test_a_request_that_fails_again_stays_failed_with_its_newest_reason(tmp_path: Path) -> None:
    file = tmp_path / "answers.jsonl"
    answered(failing("e1"), file)
    again = failing("e1")
    again = replace(again, answers={**again.answers, "e1": replace(again.answers["e1"], error="not asked")})
    found = answer_split(again, EXAMPLES, file=file, what="test", listener=SilentListener())
    assert [one.error for one in found if one.has_failed] == ["not asked"]


def test_progress_counts_what_was_answered_and_ends_with_everything(tmp_path: Path) -> None:
    answered(failing("e1", "e6", "e7"), tmp_path / "a")
    listener = Stages()
    answer_split(failing("e1"), EXAMPLES, file=tmp_path / "a", what="test", listener=listener)
    assert listener.done == [5, 7, 8]


def test_what_was_asked_includes_failed_requests_and_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "answers.jsonl"
    parrot = failing("e1")
    assert not was_asked(parrot, EXAMPLES, file=file)
    answered(parrot, file)
    assert was_asked(parrot, EXAMPLES, file=file)
    assert not was_asked(parrot, EXAMPLES[1:], file=file)
    assert not was_asked(replace(parrot, words="another"), EXAMPLES, file=file)
    file.write_bytes(file.read_bytes()[:-1])
    cut = file.read_bytes()
    assert not was_asked(parrot, EXAMPLES, file=file)
    assert file.read_bytes() == cut, "another process may be writing it"


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


def test_latency_is_measured_once_and_one_request_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: clock[0])

    class Timed(Parrot):
        def answer(self, examples: Sequence[Example]) -> tuple[Answer, ...]:
            clock[0] += 0.06
            return super().answer(examples)

    many = tuple(example(number) for number in range(30))
    parrot = Timed({one.id: answer(one.id, "") for one in many})
    first = measure_latency(parrot, many, warm_up=many[-1], file=tmp_path / "latency.jsonl")
    assert len(first) == 20, "a hundred would take more than a second"
    assert parrot.asked == [[one.id] for one in (many[-1], *many[:20])]
    assert measure_latency(Parrot({}), many, warm_up=many[-1], file=tmp_path / "latency.jsonl") == first


def test_a_hundred_requests_are_measured_where_they_take_no_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.perf_counter", lambda: 0.0)
    many = tuple(example(number) for number in range(130))
    found = measure_latency(telling(many, [""] * 130), many, warm_up=many[-1], file=tmp_path / "latency.jsonl")
    assert len(found) == 100


def test_failed_requests_are_no_latency_and_are_measured_again(tmp_path: Path) -> None:
    file = tmp_path / "latency.jsonl"
    warm_up = EXAMPLES[0]
    assert measure_latency(failing(*(one.id for one in EXAMPLES)), EXAMPLES, warm_up=warm_up, file=file) == ()
    assert len(measure_latency(failing("e0", "e5"), EXAMPLES, warm_up=warm_up, file=file)) == 6


def test_seconds_are_measured_alike_for_all_whatever_a_contender_says_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: clock[0])

    class Slow(Parrot):
        def batches(self, examples: Sequence[Example]) -> tuple[tuple[int, ...], ...]:
            clock[0] += 8.0  # one second for each of eight
            return super().batches(examples)

        def answer(self, examples: Sequence[Example]) -> tuple[Answer, ...]:
            clock[0] += 30.0
            return super().answer(examples)

    slow = Slow({one.id: answer(one.id, "x") for one in EXAMPLES})
    found = answer_split(slow, EXAMPLES, file=tmp_path / "a", what="test", listener=SilentListener())
    assert [one.usage.seconds for one in found] == [16.0] * 2 + [11.0] * 6, "the last two are a batch of their own"
    assert {one.usage.prompt_tokens for one in found} == {10}
