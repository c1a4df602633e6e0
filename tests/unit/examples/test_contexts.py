from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fettle.contenders.few_shot import FixedShots
from fettle.contenders.instruction import with_instruction
from fettle.examples.contexts import with_contexts
from fettle.examples.duplicates import comparable_text, find_duplicates
from fettle.records import Example, Location, Message

WORDS = ("engine", "window", "garden", "kettle", "bridge", "pillow", "harbour", "candle")


def examples(systems: Sequence[str], turns: Sequence[str]) -> tuple[Example, ...]:
    rows = zip(systems, turns, strict=True)
    return tuple(
        Example(
            id=str(number),
            messages=(
                Message(role="system", content=system),
                Message(role="user", content=turn),
                Message(role="assistant", content="label"),
            ),
            source=Location(file="a.jsonl", line=number + 1),
        )
        for number, (system, turn) in enumerate(rows)
    )


def test_a_system_message_that_differs_is_what_is_asked() -> None:
    systems = [f"Ticket: my {word} is broken, and I am cross. Answer in one word." for word in WORDS]
    marked = with_contexts(examples(systems, ["Route this ticket."] * len(WORDS)))
    assert [example.context for example in marked] == list(WORDS)
    assert len({comparable_text(example) for example in marked}) == len(WORDS)
    assert not [pair for pair in find_duplicates(marked) if pair.is_exact]
    assert all(
        word in example.input_text and "Route this" in example.input_text
        for word, example in zip(WORDS, marked, strict=True)
    )


def test_a_shared_instruction_is_none() -> None:
    marked = with_contexts(examples(["Be kind."] * len(WORDS), list(WORDS)))
    assert {example.context for example in marked} == {""}
    assert [example.input_text for example in marked] == list(WORDS)


def test_dates_and_names_beside_different_questions_make_no_other_question() -> None:
    dated = examples(
        [f"Be kind. Today is 2026-11-{day:02}." for day in range(len(WORDS))], ["Where is it?"] * len(WORDS)
    )
    named = examples([f"The customer is {word}." for word in WORDS], [f"Where is my {word}?" for word in WORDS])
    for given in (dated, named):
        assert {example.context for example in with_contexts(given)} == {""}


def test_parts_are_judged_together() -> None:
    stale = [replace(example, context="old") for example in examples(["Be kind."] * 8, list(WORDS))]
    assert {example.context for example in with_contexts(stale)} == {""}


def test_what_is_asked_is_kept_under_another_instruction_and_in_shots() -> None:
    systems = [f"Ticket: {word}" for word in WORDS]
    first, second, *_ = with_contexts(examples(systems, ["Route it."] * len(WORDS)))
    assert with_instruction(first, "Be brief.").messages[0].content == "Be brief.\n\nTicket: engine"
    told = FixedShots((second,)).messages(first)
    assert [message.content for message in told] == ["Ticket: engine", "window\n\nRoute it.", "label", "Route it."]


def test_all_that_the_user_said_is_looked_at() -> None:
    [example] = examples(["Be kind."], ["My card is lost."])
    system, question, answer = example.messages
    more = (
        system,
        question,
        Message(role="assistant", content="Anything else?"),
        Message(role="user", content="No, thanks."),
        answer,
    )
    assert replace(example, messages=more).input_text == "My card is lost.\nNo, thanks."
