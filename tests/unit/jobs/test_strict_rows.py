"""What a study reads as it is meant, and the API refuses or tells of, because its rules say so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fettle.jobs.training_rows import BadTrainingFileError, FileRole, read_training_rows

CALL = {"id": "call_1", "type": "function", "function": {"name": "seats"}}


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ({"content": "b", "weight": 1.0}, "line 1: message 2: weight must be the integer 0 or 1"),
        ({"tool_calls": [CALL]}, "line 1: message 2: a tool call needs function.arguments, a JSON string"),
    ],
)
def test_a_row_that_is_nearly_right_is_refused(answer: dict[str, Any], message: str, tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", **answer}]}))
    with pytest.raises(BadTrainingFileError, match=message):
        read_training_rows(file, FileRole.TRAINING, name="file-1")


@pytest.mark.parametrize(
    ("more", "warning"),
    [
        ('"parallel_tool_calls": "yes"', "`parallel_tool_calls` is neither true nor false, and is not used (line 2)"),
        ('"parallel_tool_calls": false', None),
        ('"parallel_tool_calls": null', None),
        (
            '"tools": [], "tools": []',
            "the key 'tools' is given more than once in an object, and only the last one is used (line 2)",
        ),
    ],
)
def test_what_is_odd_about_a_row_is_told(more: str, warning: str | None, tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    row = '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n'
    file.write_text(row + row.replace("]}", f"], {more}}}"))
    told = read_training_rows(file, FileRole.TRAINING, name="file-1").warnings
    assert told == (() if warning is None else (warning,))


@pytest.mark.parametrize(
    ("arguments", "warning"),
    [
        (
            '{"a": NaN}',
            "the arguments of a tool call are no strict JSON (NaN is not JSON), and are learned as they are",
        ),
        (
            '{"a": {"b": 1, "b": 2}}',
            "the key 'b' is given more than once in the arguments of a tool call, which are learned as they are",
        ),
        ('{"a": 1}', None),
    ],
)
def test_arguments_that_strict_readers_refuse_are_told(arguments: str, warning: str | None, tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    call = CALL | {"function": {"name": "seats", "arguments": arguments}}
    answer = {"role": "assistant", "tool_calls": [call, call | {"id": "call_2"}]}
    file.write_text(json.dumps({"messages": [{"role": "user", "content": "a"}, answer]}))
    rows = read_training_rows(file, FileRole.TRAINING, name="file-1")
    assert rows.warnings == (() if warning is None else (f"{warning} (line 1)",))
    assert {call.arguments for call in rows.examples[0].messages[-1].tool_calls} == {arguments}


def test_arguments_that_are_broken_are_refused_with_their_line(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    call = CALL | {"function": {"name": "seats", "arguments": '{"a": '}}
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "tool_calls": [call]}]
    file.write_text(json.dumps({"messages": messages}))
    with pytest.raises(BadTrainingFileError, match="line 1: message 2: tool call arguments are not JSON text"):
        read_training_rows(file, FileRole.TRAINING, name="file-1")


def test_a_key_twice_in_a_message_is_told_once_with_the_number_of_lines(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    row = '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "content": "c"}]}\n'
    file.write_text(row * 3)
    rows = read_training_rows(file, FileRole.TRAINING, name="file-1")
    assert {example.messages[-1].content for example in rows.examples} == {"c"}
    assert rows.warnings == (
        "the key 'content' is given more than once in an object, and only the last one is used (line 1 and 2 more)",
    )
