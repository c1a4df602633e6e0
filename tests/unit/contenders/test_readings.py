from __future__ import annotations

import random
from collections.abc import Mapping

from fettle.contenders.readings import Reading, readings
from fettle.records import Answer, FinishReason, Usage

USAGE = Usage(prompt_tokens=1, completion_tokens=1, seconds=0.0)


def answer(id_: str, text: str, scores: Mapping[str, float] | None) -> Answer:
    return Answer(
        example_id=id_, text=text, finish_reason=FinishReason.STOP, usage=USAGE, choice_log_likelihoods=scores
    )


def biased(count: int, *, seed: int) -> tuple[list[str], list[Answer]]:
    """A model that knows the answer by half a nat, and likes label `b` by five whatever it is asked."""
    chosen = random.Random(seed)
    wanted, answers = [], []
    for number in range(count):
        label = chosen.choice("abc")
        scores = {name: -3.0 + 0.5 * (name == label) + 5.0 * (name == "b") + chosen.gauss(0, 0.05) for name in "abc"}
        wanted.append(label)
        answers.append(answer(str(number), "a", scores))
    return wanted, answers


def accuracy(wanted: list[str], answers: tuple[Answer, ...]) -> float:
    return sum(one.text == label for label, one in zip(wanted, answers, strict=True)) / len(wanted)


def test_a_calibrated_reading_removes_a_constant_preference() -> None:
    _, validation = biased(300, seed=1)
    wanted, test = biased(300, seed=2)
    by_kind = {reading.kind: reading for reading in readings(validation)}
    assert accuracy(wanted, by_kind[Reading.CALIBRATED].read(test)) > 0.99
    assert {one.text for one in by_kind[Reading.LIKELIHOOD].read(test)} == {"b"}
    assert {one.text for one in by_kind[Reading.GREEDY].read(test)} == {"a"}


def test_a_calibrated_reading_does_not_depend_on_what_else_is_asked() -> None:
    _, validation = biased(50, seed=1)
    _, test = biased(40, seed=2)
    calibrated = readings(validation)[-1]
    together = calibrated.read(test)
    assert together == tuple(calibrated.read([one])[0] for one in test)


def test_a_constant_added_to_a_label_changes_no_calibrated_reading() -> None:
    _, validation = biased(50, seed=3)
    _, test = biased(50, seed=4)

    def shifted(answers: list[Answer]) -> list[Answer]:
        return [
            answer(one.example_id, one.text, {k: v + 7.0 * (k == "c") for k, v in scores.items()})
            for one in answers
            if (scores := one.choice_log_likelihoods) is not None
        ]

    before = [one.text for one in readings(validation)[-1].read(test)]
    after = [one.text for one in readings(shifted(validation))[-1].read(shifted(test))]
    assert before == after


def test_readings_keep_everything_but_the_text() -> None:
    _, validation = biased(5, seed=1)
    for reading in readings(validation):
        for before, after in zip(validation, reading.read(validation), strict=True):
            assert (after.example_id, after.usage, after.finish_reason) == (
                before.example_id,
                before.usage,
                before.finish_reason,
            )
            assert after.choice_log_likelihoods == before.choice_log_likelihoods


def test_without_likelihoods_there_is_only_what_was_said() -> None:
    without = [answer("1", "a", None), answer("2", "b", {"a": -1.0, "b": -2.0})]
    [only] = readings(without)
    assert only.kind is Reading.GREEDY
    assert only.read(without) == tuple(without)
    assert [reading.kind for reading in readings([])] == [Reading.GREEDY]


def test_an_answer_that_failed_stays_as_it_is_in_every_reading() -> None:
    _, validation = biased(5, seed=1)
    failed = answer("x", "", None)
    for reading in readings(validation):
        assert reading.read([failed]) == (failed,)
