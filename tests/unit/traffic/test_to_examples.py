from __future__ import annotations

from typing import Any

import pytest
from traffic_data import ASKED, asking, kept, said

from fettle.examples.write import chat_row
from fettle.records import Example, Location, Message
from fettle.store.traffic import Feedback, KeptRequest
from fettle.traffic.only import Only
from fettle.traffic.to_examples import FromTraffic, Standing, examples_from_traffic


def made(kept_ones: list[KeptRequest], *feedback: Feedback, **options: Any) -> FromTraffic:
    by_id: dict[str, list[Feedback]] = {}
    for one in feedback:
        by_id.setdefault(one.completion_id, []).append(one)
    return examples_from_traffic(kept_ones, by_id, **options)


def codes(found: FromTraffic) -> list[tuple[str, str]]:
    return [(finding.code, finding.file) for finding in found.findings]


def test_a_correction_is_the_wanted_answer_whatever_the_score() -> None:
    found = made([kept("a")], said("a", score=0.0), said("a", corrected="It arrives today."))
    [example] = found.examples
    assert chat_row(example)["messages"] == [*ASKED, {"role": "assistant", "content": "It arrives today."}]
    assert example.id == "a"
    assert found.num_by_standing == {Standing.UNJUDGED: 0, Standing.LIKED: 0, Standing.CORRECTED: 1}


def test_the_last_that_was_said_counts() -> None:
    found = made([kept("a")], said("a", corrected="First."), said("a", corrected="Second."), said("a", score=1.0))
    assert found.examples[0].answer == "Second."
    assert codes(made([kept("a")], said("a", score=1.0), said("a", score=0.0))) == [("disliked", "a")]


@pytest.mark.parametrize(
    ("only", "ids"), [(Only.CORRECTED, ["c"]), (Only.LIKED, ["c", "l"]), (Only.ALL, ["c", "l", "n"])]
)
def test_which_requests_become_examples_is_chosen(only: Only, ids: list[str]) -> None:
    texts = {"c": "Where is my parcel?", "l": "What does a label cost?", "n": "May I send wine?", "d": "Who are you?"}
    requests = [kept(key, asking(text)) for key, text in texts.items()]
    found = made(requests, said("c", corrected="Here."), said("l", score=0.8), said("d", score=0.2), only=only)
    assert [example.id for example in found.examples] == ids
    assert codes(found) == ([] if only is Only.CORRECTED else [("disliked", "d")])


def test_answers_cut_short_are_left_out_unless_corrected() -> None:
    cut = kept("a", finish_reason="length")
    assert codes(made([cut], only=Only.ALL)) == [("cut-short", "a")]
    assert made([cut], said("a", corrected="Whole.")).examples[0].answer == "Whole."


def test_of_what_asks_the_same_the_best_known_and_then_the_last_is_kept() -> None:
    other = {"role": "assistant", "content": "No idea."}
    requests = [kept("first"), kept("corrected"), kept("other", answer=other), kept("last")]
    found = made(requests, said("corrected", corrected="On its way."), only=Only.ALL)
    assert [example.id for example in found.examples] == ["corrected"]
    assert codes(found) == [("repeat", "first"), ("other-answer", "other"), ("repeat", "last")]
    assert [example.id for example in made([kept("first"), kept("last")], only=Only.ALL).examples] == ["last"]


def test_what_the_test_file_holds_is_left_out_and_said() -> None:
    test = Example(
        id="t",
        messages=(
            Message(role="user", content="Where is parcel seven of mine?"),
            Message(role="assistant", content="?"),
        ),
        source=Location(file="test.jsonl", line=4),
    )
    found = made([kept("a"), kept("b", asking("May I send wine to Norway?"))], only=Only.ALL, test=[test])
    assert [example.id for example in found.examples] == ["b"]
    assert codes(found) == [("leak-exact", "a")]
    assert "test.jsonl:4" in found.findings[0].message


def test_earlier_answers_of_a_conversation_are_not_learned_and_its_turns_belong_together() -> None:
    more = [*ASKED, {"role": "assistant", "content": "On its way."}, {"role": "user", "content": "Since when?"}]
    found = made([kept("first"), kept("second", more), kept("else", asking("May I send wine?"))], only=Only.ALL)
    first, second, other = found.examples
    assert [message.weight for message in second.messages] == [None, None, 0, None, None]
    assert first.group == second.group != other.group


def test_function_calls_are_kept_with_their_functions() -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "close", "arguments": "{}"}}
    tool = {"type": "function", "function": {"name": "close", "parameters": {"type": "object", "properties": {}}}}
    request = kept(
        "a", request={"messages": ASKED, "tools": [tool]}, answer={"role": "assistant", "tool_calls": [call]}
    )
    [example] = made([request], said("a", score=1.0)).examples
    row = chat_row(example)
    assert row["messages"][-1]["tool_calls"] == [call]
    assert row["tools"] == [tool]


def test_requests_without_texts_are_counted() -> None:
    found = made([kept("a"), kept("b", request=None, answer=None)], only=Only.ALL)
    assert [example.id for example in found.examples] == ["a"]
    assert codes(found) == [("texts-not-kept", "kept requests")]
    assert "1 of 2" in found.findings[0].message


SHOT = [{"role": "user", "content": "Hm?"}, {"role": "assistant", "content": "Yes?"}]


def test_examples_that_a_program_sends_along_make_no_conversation_of_all_requests() -> None:
    requests = [kept(name, [*SHOT, *asking(text)]) for name, text in (("a", "May I send wine?"), ("b", "And tea?"))]
    groups = [example.group for example in made(requests, only=Only.ALL).examples]
    assert len(set(groups)) == 2


def test_a_turn_is_of_the_conversation_that_goes_on_even_where_one_between_was_not_kept() -> None:
    turns = [*asking("May I send wine?"), {"role": "assistant", "content": "Where to?"}]
    for text in ("To Norway.", "By boat."):
        turns += [{"role": "user", "content": text}, {"role": "assistant", "content": "I see."}]
    requests = [kept("a", turns[:2]), kept("c", turns[:-1]), kept("d", asking("And tea?"))]
    groups = {example.id: example.group for example in made(requests, only=Only.ALL).examples}
    assert groups["a"] == groups["c"] != groups["d"]


def test_what_the_test_file_asks_is_known_without_its_personal_data() -> None:
    asks = Message(role="user", content="Please send it to grace@example.com")
    test = Example(
        id="t",
        messages=(asks, Message(role="assistant", content="Sent.")),
        source=Location(file="test.jsonl", line=4),
    )
    found = made([kept("a", asking("Please send it to [email]"))], only=Only.ALL, test=[test])
    assert not found.examples
    assert codes(found) == [("leak-exact", "a")]


def test_placeholders_are_not_learned_as_answers() -> None:
    answer = {"role": "assistant", "content": '{"tracking_number": "[number]"}'}
    found = made(
        [kept("a", answer=answer), kept("b", asking("And tea?"), answer=answer)],
        said("b", corrected="No."),
        only=Only.ALL,
    )
    assert codes(found) == [("redacted-answer", "a")]
    assert [example.id for example in found.examples] == ["b"]
    assert made([kept("a", answer=answer, is_redacted=False)], only=Only.ALL).examples
