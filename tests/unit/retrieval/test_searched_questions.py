"""What is searched for: the same in studies and in the server, where system messages ask, too."""

from __future__ import annotations

import pytest

from fettle.contenders.instruction import with_instruction
from fettle.examples.contexts import with_contexts
from fettle.records import Example, Location, Message
from fettle.retrieval.question import SystemPart, question_of, question_of_example, system_part_of

TICKETS = [
    "My parcel is lost.",
    "Where is my bill?",
    "A",
    "The lift stands still.",
    "Who has my key?",
    "It rains in.",
]


def example(number: int, system: str, *, user: str = "Route this ticket.") -> Example:
    turns = [("system", system), ("user", user), ("assistant", "so")]
    messages = tuple(Message(role=role, content=text) for role, text in turns)  # type: ignore[arg-type]
    return Example(id=str(number), messages=messages, source=Location(file="a", line=number + 1))


@pytest.mark.parametrize("instruction", [None, "Be brief."])
@pytest.mark.parametrize(
    "form", ["{}", "You are A clerk. Ticket: {}", "You are A clerk.\n\n{} no. {n}\n\nThat was it.", "{} Thanks."]
)
def test_the_server_searches_for_what_the_study_searched_for(form: str, instruction: str | None) -> None:
    texts = [form.format(f"{ticket} {word}", n=1) for ticket in TICKETS for word in ("red", "blue")]
    some = with_contexts([example(number, text) for number, text in enumerate(texts)])
    if instruction:
        some = tuple(with_instruction(one, instruction) for one in some)
    part = system_part_of(some)
    assert part is not None
    for one in some:
        question = question_of(one.prompt, part)
        assert question == question_of_example(one)
        assert one.context in question
        assert "clerk" not in question
        assert "brief" not in question


def test_instructions_are_not_searched_for() -> None:
    some = with_contexts([example(number, "Be brief.", user=f"Where is {number}?") for number in range(12)])
    assert system_part_of(some) is None
    assert question_of(some[3].prompt) == question_of_example(some[3]) == "Where is 3?"


def test_another_system_message_than_the_examples_have_is_searched_for_as_a_whole() -> None:
    part = SystemPart(begin="Ticket:", end="Thanks.")
    messages = [Message(role="system", content="My bill?"), Message(role="user", content="Route this.")]
    assert question_of(messages, part) == "Route this.\nMy bill?"
    assert question_of(messages[1:], part) == "Route this."
