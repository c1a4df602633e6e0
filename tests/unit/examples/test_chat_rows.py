import json
from typing import Any

import pytest

from fettle.examples.notes import UnusableRowError
from fettle.examples.readers.json_values import parse_row
from fettle.examples.row_formats.chat import ChatFormat

USER = {"role": "user", "content": "Seats to Rome?"}
ANSWER = {"role": "assistant", "content": "Four."}
CALL = {"id": "c1", "type": "function", "function": {"name": "seats", "arguments": '{"city": "Rome"}'}}


def convert(*messages: Any, **more: Any):
    return ChatFormat().convert({"messages": list(messages), **more})


def refused(*messages: Any, **more: Any) -> str:
    with pytest.raises(UnusableRowError) as caught:
        convert(*messages, **more)
    assert caught.value.note.remedy
    return caught.value.note.code


def test_tools_calls_and_results_are_kept():
    tool = {
        "type": "function",
        "function": {"name": "seats", "description": "Free seats", "parameters": {"type": "object"}},
    }
    found = convert(
        USER,
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "c1", "content": "4"},
        ANSWER | {"weight": 1},
        tools=[tool],
        parallel_tool_calls=False,
    )
    assert found.messages[1].tool_calls[0].arguments == '{"city": "Rome"}'
    assert (found.messages[2].tool_call_id, found.messages[3].weight) == ("c1", 1)
    assert (found.tools[0].name, json.loads(found.tools[0].parameters)) == ("seats", {"type": "object"})
    assert found.notes == ()


def test_deprecated_function_calls_become_tool_calls():
    found = convert(
        USER,
        {"role": "assistant", "content": None, "function_call": {"name": "seats", "arguments": "{}"}},
        {"role": "function", "name": "seats", "content": "4"},
        ANSWER,
        functions=[{"name": "seats"}],
    )
    assert found.messages[1].tool_calls[0].id == found.messages[2].tool_call_id
    assert found.messages[2].role == "tool"
    assert found.tools[0].name == "seats"
    assert [note.code for note in found.notes] == ["function-call"]


def test_text_parts_are_joined_and_others_refused_by_name():
    parts = [{"type": "text", "text": "Seats"}, {"type": "text", "text": "to Rome?"}]
    assert convert({"role": "user", "content": parts}, ANSWER).messages[0].content == "Seats\nto Rome?"
    with pytest.raises(UnusableRowError, match="image_url"):
        convert({"role": "user", "content": [{"type": "image_url"}]}, ANSWER)


def test_a_refusal_is_an_answer():
    assert convert(USER, {"role": "assistant", "content": None, "refusal": "No."}).messages[-1].content == "No."


@pytest.mark.parametrize(
    ("messages", "code"),
    [
        ([], "bad-messages"),
        ([USER], "no-assistant"),
        ([ANSWER, USER], "no-answer-at-end"),
        ([ANSWER], "empty-input"),
        ([USER, {"role": "assistant", "content": " "}], "empty-answer"),
        ([USER, {"role": "assistant", "content": None}], "bad-content"),
        ([USER, {"role": "assistant"}], "bad-content"),
        ([USER, {"role": "assistant", "content": 42}], "bad-content"),
        ([USER, {"role": "bot", "content": "x"}], "bad-role"),
        ([USER, {"content": "x"}], "bad-role"),
        ([USER, {"role": ["assistant"], "content": "x"}], "bad-role"),
        ([USER, ANSWER | {"weight": 0.5}], "bad-weight"),
        ([USER, ANSWER | {"weight": True}], "bad-weight"),
        ([USER | {"weight": 1}, ANSWER], "bad-weight"),
        ([USER, {"role": "tool", "tool_call_id": "zzz", "content": "x"}, ANSWER], "tool-result-without-call"),
        ([USER, ANSWER | {"tool_calls": [{"function": {"name": "f", "arguments": "{city}"}}]}], "bad-tool-call"),
        ([USER, ANSWER | {"tool_calls": "f"}], "bad-tool-call"),
        (["hi", ANSWER], "bad-message"),
    ],
)
def test_rows_that_break_the_format_are_refused(messages: list[Any], code: str):
    assert refused(*messages) == code


def test_the_wanted_answer_is_the_last_one_that_is_to_be_learned():
    off = {"role": "assistant", "content": "IGNORE", "weight": 0}
    found = convert(USER, off, USER, ANSWER, USER, off)
    assert [message.content for message in found.messages][1:] == ["IGNORE", "Seats to Rome?", "Four."]
    assert [note.code for note in found.notes] == ["cut-at-weight"]
    assert "message 4 is taken as the wanted answer" in found.notes[0].message
    assert refused(USER, off, USER, off) == "nothing-trained"
    assert refused({"role": "assistant", "content": "Hello"}, USER, off) == "empty-input"
    assert convert(USER, off, USER, ANSWER).notes == ()


def test_unusual_rows_are_kept_with_a_warning():
    found = convert(
        {"role": "system", "content": "a"}, {"role": "developer", "content": "b"}, USER, USER | {"mood": "x"}, ANSWER
    )
    assert {note.code for note in found.notes} == {"unknown-key", "two-system-messages", "two-user-messages"}


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ('{"a": NaN}', "not-json"),
        ('{"a": 1},', "not-json"),
        ('{"a": 1', "not-json"),
        ("[]", "not-an-object"),
        ("7", "not-an-object"),
        ("[" * 100_000, "not-json"),
        ("9" * 10_000, "not-json"),
    ],
)
def test_what_is_not_one_json_object_is_no_row(text: str, code: str):
    row = parse_row(text, 1)
    assert row.values is None
    assert row.notes[-1].code == code


def test_a_lone_surrogate_is_replaced():
    row = parse_row('{"a": "\\ud83d!"}', 1)
    assert row.values == {"a": "\ufffd!"}
    assert row.notes[0].code == "half-character"


def test_a_key_given_twice_is_a_warning():
    row = parse_row('{"a": 1, "a": 2}', 1)
    assert row.values == {"a": 2}
    assert row.notes[0].code == "repeated-key"
