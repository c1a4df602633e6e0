from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from fettle.contenders.few_shot import FixedShots, NearestShots, shot_sets
from fettle.contenders.instruction import (
    choose_instruction,
    derive_hint,
    derive_instruction,
    has_instruction,
    with_instruction,
)
from fettle.contenders.prompt import OwnPrompt, with_hint
from fettle.errors import DataError, IntegrityError
from fettle.records import Example, Location, Message, Task, TaskKind
from fettle.retrieval.neighbours import NearestNeighbours

WORDS = ("money", "parcel", "password", "refund", "late", "driver", "code", "card")
SECRET = "the wanted answer"


class Bag:
    """Counts of the known words: a real, tiny embedder."""

    name = "bag"

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        counts = np.array([[text.split().count(word) for word in WORDS] + [1] for text in texts], dtype=np.float32)
        counts = counts.reshape(-1, len(WORDS) + 1)
        return counts / np.linalg.norm(counts, axis=1, keepdims=True)


def example(id_: str, text: str, answer: str, *, system: str | None = "Be brief.") -> Example:
    messages = [Message(role="user", content=text), Message(role="assistant", content=answer)]
    if system is not None:
        messages.insert(0, Message(role="system", content=system))
    return Example(id=id_, messages=tuple(messages), source=Location(file="a.csv", line=int(id_[1:]) + 2))


def rows(count: int, *, labels: int = 4, seed: int = 0) -> list[Example]:
    chosen = random.Random(seed)
    return [
        example(f"r{number}", " ".join(chosen.choices(WORDS, k=5)), f"label {chosen.randrange(labels)}")
        for number in range(count)
    ]


def contents(messages: Sequence[Message]) -> str:
    return "\n".join(message.content for message in messages)


# ------------------------------------------------------------------------------------------------ few-shot


@pytest.mark.parametrize("num_shots", [1, 3, 6])
def test_shot_sets_take_training_examples_once_and_different_answers_first(num_shots: int) -> None:
    train = rows(40)
    sets = shot_sets(train, num_shots=num_shots, num_sets=5, seed=1)
    assert len(sets) == 5
    assert len(set(sets)) > 1
    for shots in sets:
        assert len(shots) == num_shots
        assert set(shots) <= set(train)
        assert len({shot.id for shot in shots}) == num_shots
        assert len({shot.answer for shot in shots}) == min(num_shots, 4)
    assert sets == shot_sets(train, num_shots=num_shots, num_sets=5, seed=1)
    assert sets != shot_sets(train, num_shots=num_shots, num_sets=5, seed=2)


def test_shot_sets_leave_out_the_longest_examples() -> None:
    train = [*rows(30), *(example(f"x{number}", "long " * 500, "label 0") for number in range(5))]
    for shots in shot_sets(train, num_shots=6, num_sets=10, seed=0):
        assert not any(shot.id.startswith("x") for shot in shots)


def test_fewer_examples_than_shots_are_all_taken() -> None:
    train = [example(f"r{number}", "late", "label 0") for number in range(3)]
    [shots] = shot_sets(train, num_shots=6, num_sets=1, seed=0)
    assert {shot.id for shot in shots} == {"r0", "r1", "r2"}


def test_fixed_shots_come_between_the_instruction_and_the_message() -> None:
    train = rows(10)
    asked = example("r99", "my parcel", SECRET, system="Be very brief.")
    messages = FixedShots(tuple(train[:2])).messages(asked)
    assert [message.role for message in messages] == ["system", "user", "assistant", "user", "assistant", "user"]
    assert messages[0].content == "Be very brief."
    assert messages[1:3] == train[0].messages[1:]
    assert messages[-1].content == "my parcel"
    assert SECRET not in contents(messages)


def test_shots_of_examples_without_instruction_need_none() -> None:
    shot = example("r1", "late", "label 1", system=None)
    asked = example("r2", "card", SECRET, system=None)
    assert [message.role for message in FixedShots((shot,)).messages(asked)] == ["user", "assistant", "user"]
    assert FixedShots((shot,), "A hint.").messages(asked)[0] == Message(role="system", content="A hint.")


def test_an_example_among_its_own_shots_stops_the_run() -> None:
    train = rows(5)
    with pytest.raises(IntegrityError, match="its answer would be in the prompt"):
        FixedShots(tuple(train)).messages(train[2])


def test_nearest_shots_are_training_examples_and_never_the_example_itself() -> None:
    train = rows(30)
    held_out = [example(f"h{number}", row.input_text, SECRET) for number, row in enumerate(rows(20, seed=5))]
    style = NearestShots(NearestNeighbours(Bag(), train), 4)
    for asked in [*train, *held_out]:
        messages = style.messages(asked)
        shown = [turn.content for turn in messages[1:-1]]
        known = {(row.input_text, row.answer): row.id for row in train if row.id != asked.id}
        pairs = list(zip(shown[::2], shown[1::2], strict=True))
        assert len(pairs) == 4
        assert all(pair in known for pair in pairs)
        assert SECRET not in contents(messages)


def test_the_nearest_shot_stands_last() -> None:
    train = [
        example("r0", "money money", "far"),
        example("r1", "parcel late driver", "near"),
        example("r2", "parcel money", "middle"),
    ]
    messages = NearestShots(NearestNeighbours(Bag(), train), 3).messages(example("r9", "parcel late", "x"))
    assert [message.content for message in messages if message.role == "assistant"] == ["far", "middle", "near"]


def test_a_style_says_what_it_shows() -> None:
    train = rows(5)
    assert "a.csv:2, a.csv:3" in FixedShots(tuple(train[:2])).describe()
    assert FixedShots(tuple(train[:2])).describe() != FixedShots(tuple(train[1:3])).describe()
    assert "3 training examples nearest" in NearestShots(NearestNeighbours(Bag(), train), 3).describe()


# ------------------------------------------------------------------------------------------------ hints


def test_a_hint_joins_the_instruction_or_becomes_one() -> None:
    asked = example("r1", "late", SECRET)
    assert OwnPrompt().messages(asked) == asked.prompt
    assert OwnPrompt("Hint.").messages(asked)[0].content == "Be brief.\n\nHint."
    bare = example("r1", "late", SECRET, system=None)
    assert [message.role for message in OwnPrompt("Hint.").messages(bare)] == ["system", "user"]
    developer = Message(role="developer", content="Be brief.")
    assert with_hint([developer], "Hint.") == (Message(role="developer", content="Be brief.\n\nHint."),)
    assert SECRET not in contents(OwnPrompt("Hint.").messages(asked))
    assert OwnPrompt("Hint.").describe() != OwnPrompt().describe()


# ------------------------------------------------------------------------------------------------ instructions

LABELS = Task(kind=TaskKind.LABELS, reason="", labels=("refund", "late parcel", "lost card"))
JSON = Task(
    kind=TaskKind.JSON,
    reason="",
    json_schema=json.dumps(
        {
            "type": "object",
            "properties": {
                "queue": {"enum": ["refund", "größe"]},
                "amount": {"type": ["number", "null"]},
                "note": {"type": "string"},
                "anything": {},
            },
        }
    ),
)
TEXT = Task(kind=TaskKind.TEXT, reason="")


def test_an_instruction_never_takes_the_place_of_the_question() -> None:
    asked = Message(role="system", content="Where is parcel 7?")
    answer = Message(role="assistant", content="refund")
    bare = Example(id="e", messages=(asked, answer), source=Location(file="a.jsonl", line=3))
    assert bare.input_text == "Where is parcel 7?"
    with pytest.raises(
        DataError, match=r"a.jsonl:3: 1 example\(s\), this one first, ask in their system message alone"
    ):
        choose_instruction("Be brief.", LABELS, train=[bare], everything=[bare])
    assert choose_instruction(None, LABELS, train=[bare], everything=[bare]).on(bare) == bare


def test_the_instruction_of_few_labels_names_them_and_of_many_counts_them() -> None:
    assert derive_instruction(LABELS, []) == (
        "Answer with the one label that fits the message: refund, late parcel, lost card."
    )
    many = Task(kind=TaskKind.LABELS, reason="", labels=tuple(f"label {n}" for n in range(40)))
    assert "one of 40 labels" in derive_instruction(many, [])
    assert "label 7" not in derive_instruction(many, [])


def test_the_hint_names_every_label_on_a_line_of_its_own() -> None:
    assert derive_hint(LABELS, []).splitlines()[1:] == ["refund", "late parcel", "lost card"]


def test_json_keys_and_their_kinds_are_named() -> None:
    assert derive_instruction(JSON, []).endswith("the keys queue, amount, note, anything.")
    assert derive_hint(JSON, []).splitlines()[1:] == [
        '- "queue": one of "refund", "größe"',
        '- "amount": number or null',
        '- "note": string',
        '- "anything": any value',
    ]


def test_text_lengths_are_those_of_the_middle_of_the_training_answers() -> None:
    train = [example(f"r{number}", "x", "word " * number) for number in range(1, 100)]
    assert derive_instruction(TEXT, train) == "Answer the message in the house style, in 10 to 90 words."
    hint = derive_hint(TEXT, train, ["Open with the first name", "No exclamation marks."])
    assert hint.splitlines()[1:] == [
        "- Write 10 to 90 words.",
        "- Open with the first name.",
        "- No exclamation marks.",
    ]
    assert "in about 3 words" in derive_instruction(TEXT, [example("r0", "x", "one two three")])


def test_instructions_state_only_what_the_training_examples_show() -> None:
    train = rows(10)
    for task in (LABELS, JSON, TEXT):
        for row in train:
            assert row.input_text not in derive_instruction(task, train) + derive_hint(task, train)


def test_an_instruction_takes_the_place_of_a_missing_one() -> None:
    bare = example("r1", "late", "refund", system=None)
    assert not has_instruction(bare)
    with_one = with_instruction(bare, "Be kind.")
    assert has_instruction(with_one)
    assert with_one.messages == (Message(role="system", content="Be kind."), *bare.messages)
    assert with_instruction(example("r3", "a", "b"), "Be kind.").messages[0].content == "Be kind."
    assert len(with_instruction(example("r3", "a", "b"), "Be kind.").messages) == 3


def test_many_fixed_shots_are_counted_and_few_of_them_named() -> None:
    train = rows(30)
    assert FixedShots(tuple(train[:8])).describe().startswith("8 fixed training examples in the prompt (a.csv:2, ")
    assert "a.csv:9)" in FixedShots(tuple(train[:8])).describe()
    assert "a.csv:8 and 23 more)" in FixedShots(tuple(train)).describe()


@pytest.mark.parametrize(("num_bad", "is_bad_shown"), [(3, False), (9, True)])
def test_answers_of_weight_0_are_no_models_to_follow(num_bad: int, is_bad_shown: bool) -> None:
    train = rows(12)
    bad = (Message(role="assistant", content="BAD", weight=0), Message(role="user", content="No!"))
    for number in range(num_bad):
        system, question, answer = train[number].messages
        train[number] = replace(train[number], messages=(system, question, *bad, answer))
    shown = [shot for shots in shot_sets(train, num_shots=9, num_sets=3, seed=0) for shot in shots]
    assert any("BAD" in contents(shot.messages) for shot in shown) == is_bad_shown
