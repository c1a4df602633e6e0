from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from small_studies import LABEL_TASK, LABELS, Parrot, answer, example, split, telling

from fettle.answering.engine import GenerationOptions
from fettle.contenders.constant import ConstantAnswer
from fettle.contenders.instruction import with_instruction
from fettle.contenders.language_model import LanguageModel
from fettle.contenders.readings import Reading
from fettle.errors import DataError
from fettle.progress import SilentListener
from fettle.records import Answer, FinishReason, Prompt
from fettle.scoring.registry import grader_by_name
from fettle.study.ladder import Ladder, Rung, best_rung

VALID = [example(number, LABELS[number % 2]) for number in range(6)]
TEST = [example(number, LABELS[number % 2]) for number in range(10, 14)]
TRAIN = [example(number, LABELS[number % 2]) for number in range(20, 30)]
RIGHT = [one.answer for one in VALID]
WRONG = ["billing"] * 6


@pytest.fixture
def ladder(tmp_path: Path) -> Ladder:
    return Ladder(
        split=split(train=TRAIN, valid=VALID, test=TEST),
        task=LABEL_TASK,
        primary=grader_by_name("exact_label", LABEL_TASK, TRAIN),
        options=GenerationOptions(max_new_tokens=4),
        folder=tmp_path,
        listener=SilentListener(),
    )


def test_the_best_variant_on_validation_wins(ladder: Ladder) -> None:
    variants = [
        telling(VALID, WRONG, words="bad"),
        telling(VALID, RIGHT, words="good"),
        telling(VALID, WRONG, words="c"),
    ]
    rung = ladder.best(variants)
    assert rung.contender is variants[1]
    assert rung.validation_score == 1.0
    assert rung.describe() == "good"


def test_the_first_of_equals_wins(ladder: Ladder) -> None:
    variants = [telling(VALID, RIGHT, words="first"), telling(VALID, RIGHT, words="second")]
    assert ladder.best(variants).contender is variants[0]


def test_a_single_variant_answers_validation_once(ladder: Ladder) -> None:
    parrot = telling(VALID, RIGHT)
    ladder.best([parrot])
    assert sorted(chain.from_iterable(parrot.asked)) == sorted(one.id for one in VALID)


def test_the_winner_is_not_asked_again_what_it_was_chosen_on(ladder: Ladder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fettle.study.ladder._NUM_CHOOSING_EXAMPLES", 2)
    right_at_first = [*RIGHT[:2], *WRONG[2:]]
    winner, loser = telling(VALID, right_at_first, words="good"), telling(VALID, RIGHT[1:] + RIGHT[:1])
    rung = ladder.best([loser, winner])
    assert rung.contender is winner
    assert sorted(chain.from_iterable(winner.asked)) == sorted(one.id for one in VALID)
    expected = [one.answer == text for one, text in zip(VALID, right_at_first, strict=True)]
    assert rung.validation_score == sum(expected) / len(expected)


def test_a_contender_was_asked_when_both_splits_were_failures_included(ladder: Ladder) -> None:
    everything = [*VALID, *TEST]
    parrot = telling(everything, ["billing"] * len(everything))
    parrot = replace(parrot, answers={**parrot.answers, "e0": answer("e0", "", finish_reason=FinishReason.ERROR)})
    assert not ladder.was_asked(parrot)
    rung = ladder.best([parrot])
    assert rung.num_failed == 1
    assert not ladder.was_asked(parrot)
    ladder.answer_test(rung)
    assert ladder.was_asked(parrot)


def test_the_test_split_is_answered_once_and_never_for_choosing(ladder: Ladder) -> None:
    told = {one.id: answer(one.id, one.answer) for one in (*VALID, *TEST)}
    variants = [Parrot(told, words="a"), Parrot(told, words="b")]
    rung = ladder.best(variants)
    assert {id_ for parrot in variants for batch in parrot.asked for id_ in batch} == {one.id for one in VALID}
    answers = ladder.answer_test(rung)
    assert [one.text for one in answers] == [one.answer for one in TEST]
    num_batches = len(variants[0].asked)
    assert ladder.answer_test(rung) == answers
    assert len(variants[0].asked) == num_batches


def test_the_reading_is_chosen_on_validation_and_kept_on_the_test(ladder: Ladder) -> None:
    # Greedy always says billing, and so does the plain likelihood, by a liking of 5 for billing; without that it is right.
    def liking(wanted: str) -> dict[str, float]:
        return {"billing": -1.0 if wanted == "billing" else -2.0, "delivery": -6.0 if wanted == "delivery" else -7.0}

    told = {one.id: answer(one.id, "billing", likelihoods=liking(one.answer)) for one in (*VALID, *TEST)}
    rung = ladder.best([Parrot(told)])
    assert rung.reading is not None
    assert rung.reading.kind is Reading.CALIBRATED
    assert rung.validation_score == 1.0
    assert rung.describe() == "says what it is told, read by calibrated label likelihood"
    assert [one.text for one in ladder.answer_test(rung)] == [one.answer for one in TEST]


def test_unscored_answers_are_left_out_of_the_validation_score(ladder: Ladder) -> None:
    told = {one.id: answer(one.id, one.answer) for one in VALID}
    told["e0"] = answer("e0", "", finish_reason=FinishReason.ERROR)
    told["e1"] = answer("e1", "billing")
    assert ladder.best([Parrot(told)]).validation_score == 4 / 5


def test_a_contender_that_could_not_be_scored_has_no_score_and_is_never_the_baseline(ladder: Ladder) -> None:
    failed = {one.id: answer(one.id, "", finish_reason=FinishReason.ERROR) for one in VALID}
    dead = ladder.best([Parrot(failed, name="dead", words="a"), Parrot(failed, name="dead", words="b")])
    assert dead.validation_score is None
    wrong = ladder.best([telling(VALID, ["neither"] * 6)])
    assert wrong.validation_score == 0.0
    assert best_rung([dead, wrong]) is wrong
    with pytest.raises(DataError, match="no answer to the validation split could be scored"):
        best_rung([dead])


def test_the_baseline_is_the_best_and_the_first_of_equals(ladder: Ladder) -> None:
    def rung(name: str, score: float) -> Rung:
        return Rung(contender=Parrot({}, name=name), reading=None, validation_score=score)

    rungs = [rung("a", 0.3), rung("b", 0.9), rung("c", 0.9)]
    assert best_rung(rungs).contender.name == "b"


def test_the_constant_answer_is_never_the_baseline() -> None:
    constant = Rung(contender=ConstantAnswer("{}", origin="a text"), reading=None, validation_score=0.9)
    prompt = Rung(contender=Parrot({}, name="prompt"), reading=None, validation_score=0.2)
    assert best_rung([constant, prompt]) is prompt


class SilentEngine:
    """An engine that is never asked."""

    name = "silent"
    max_tokens = None

    def count_prompt_tokens(self, prompt: Prompt) -> int:
        raise NotImplementedError

    def batches(self, prompts: Sequence[Prompt]) -> tuple[tuple[int, ...], ...]:
        raise NotImplementedError

    def generate(self, prompts: Sequence[Prompt], options: GenerationOptions) -> tuple[Answer, ...]:
        raise NotImplementedError

    def choose(self, prompts: Sequence[Prompt], choices: Sequence[str]) -> tuple[Answer, ...]:
        raise NotImplementedError

    def choose_each(self, prompts: Sequence[Prompt], choices_of_each: Sequence[Sequence[str]]) -> tuple[Answer, ...]:
        raise NotImplementedError


class LengthEmbedder:
    """Embeds a text as its length."""

    name = "length"

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        angles = np.array([len(text) for text in texts], dtype=np.float32) / 1000
        return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def shots_and_hints(ladder: Ladder, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[tuple[int, bool]]]:
    """Of each few-shot contender's variants how many shots they have, and whether the labels are listed before them."""
    seen: dict[str, list[tuple[int, bool]]] = {}

    def look(_: Ladder, variants: Sequence[LanguageModel]) -> Rung:
        for variant in variants:
            num_turns = len([m for m in variant.told(VALID[0]) if m.role == "user"])
            seen.setdefault(variant.name, []).append((num_turns - 1, variant.style.hint is not None))
        return Rung(contender=variants[0], reading=None, validation_score=0.0)

    monkeypatch.setattr(Ladder, "best", look)
    monkeypatch.setattr("fettle.study.ladder.MiniLMEmbedder", LengthEmbedder)
    ladder.untuned(SilentEngine(), "tiny")
    return {name: seen[name] for name in ("few_shot", "few_shot_nearest")}


def test_shots_of_a_label_task_are_tried_with_and_without_a_list_of_the_labels(
    ladder: Ladder, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = shots_and_hints(ladder, monkeypatch)
    assert found["few_shot"] == [(8, False), (8, False), (8, True), (8, True)]
    assert found["few_shot_nearest"] == [(8, False), (8, True)]


def test_labels_that_the_instruction_lists_are_not_listed_again(
    ladder: Ladder, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = [with_instruction(one, f"Say one of {LABELS}.") for one in TRAIN]
    found = shots_and_hints(replace(ladder, split=split(train=told, valid=VALID, test=TEST)), monkeypatch)
    assert found == {"few_shot": [(8, False)] * 2, "few_shot_nearest": [(8, False)]}


def test_there_is_a_fixed_shot_for_each_label_where_they_fit(ladder: Ladder, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = tuple(f"label {number}" for number in range(12))
    train = [example(number, labels[number % 12], system="Sort it.") for number in range(36)]
    many = replace(ladder, task=replace(LABEL_TASK, labels=labels), split=split(train=train, valid=VALID, test=TEST))
    assert {num for num, _ in shots_and_hints(many, monkeypatch)["few_shot"]} == {12}
    assert shots_and_hints(replace(many, shot_characters=100), monkeypatch)["few_shot"][0][0] < 12


def test_there_are_few_shot_contenders_however_long_the_examples_are(
    ladder: Ladder, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = shots_and_hints(replace(ladder, shot_characters=1), monkeypatch)
    assert {num for num, _ in found["few_shot"]} == {1}
    assert found["few_shot_nearest"]
