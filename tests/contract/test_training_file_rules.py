"""Section 4 of the contract: which training files are taken, and what each of the others ends a job with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import openai
import pytest
from api_server import RunningServer
from openai.types.fine_tuning import FineTuningJob
from training_files import (
    ENDLESS,
    ENDLESS_ROWS,
    cancel_or_ended,
    chat_row,
    json_lines,
    training_content,
    upload,
    wait_for_status,
    wait_until,
)

pytestmark = pytest.mark.any_database

USER = {"role": "user", "content": "Seats to Rome?"}
ANSWER = {"role": "assistant", "content": "Two."}
RESULT = {"role": "tool", "tool_call_id": "c1", "content": "2"}
TOOLS = [{"type": "function", "function": {"name": "seats", "parameters": {"type": "object", "properties": {}}}}]


def call(arguments: Any = "{}", name: Any = "seats") -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return {"role": "assistant", "tool_calls": [{"id": "c1", "type": "function", "function": function}]}


def row(*messages: Any, **more: Any) -> dict[str, Any]:
    return {"messages": list(messages), **more}


def fourth(content: bytes | Mapping[str, Any]) -> bytes:
    """A file of valid rows, but for its fourth line."""
    lines = training_content().splitlines(keepends=True)
    lines[3] = content + b"\n" if isinstance(content, bytes) else json.dumps(content).encode() + b"\n"
    return b"".join(lines)


NINE = "Training file has 9 example(s), but must have at least 10 examples"
DEFECTS_OF_A_LINE: dict[str, bytes | dict[str, Any]] = {
    "not JSON": b"{'messages': []}",
    "half a row": b'{"messages": [',
    "an array": b"[1, 2]",
    "a text": b'"text"',
    "not UTF-8": b'{"messages": "\xff"}',
    "half a surrogate pair": b'{"messages": [{"role": "user", "content": "\\ud800"}, {"role": "assistant", "content": "x"}]}',
    "NaN": b'{"messages": NaN}',
    "nested deeply": b'{"a": ' + b"[" * 100_000,
    "a blank line": b"",
    "comma-separated": b"question,answer",
    "no messages": {"prompt_text": "a"},
    "messages are text": {"messages": "hello"},
    "messages are empty": {"messages": []},
    "a message is text": row("hello", ANSWER),
    "no role": row({"content": "hello"}, ANSWER),
    "an unknown role": row({"role": "robot", "content": "hello"}, ANSWER),
    "content is a number": row({"role": "user", "content": 5}, ANSWER),
    "an image": row({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:x"}}]}, ANSWER),
    "no assistant": row(USER),
    "the last message is the user's": row(USER, ANSWER, USER),
    "a weight of a half": row(USER, ANSWER | {"weight": 0.5}),
    "a weight of 2": row(USER, ANSWER | {"weight": 2}),
    "a weight in words": row(USER, ANSWER | {"weight": "1"}),
    "arguments are an object": row(USER, call({}), tools=TOOLS),
    "a call without a name": row(USER, call(name=None), tools=TOOLS),
    "tools are an object": row(USER, ANSWER, tools={}),
    "a tool without a name": row(USER, ANSWER, tools=[{"type": "function", "function": {}}]),
    "a tool message without an id": row(USER, call(), {"role": "tool", "content": "2"}, ANSWER, tools=TOOLS),
    "a tool message after no call": row(USER, {"role": "tool", "tool_call_id": "c9", "content": "2"}, ANSWER),
    "a preference row": {"input": row(USER), "preferred_output": [ANSWER], "non_preferred_output": [ANSWER]},
    "prompt and completion": {"prompt": "a", "completion": "b"},
}
DEFECTS_OF_A_FILE: dict[str, tuple[bytes, str, str]] = {
    "no examples": (b"\n\n", "invalid_training_file", "no example"),
    "nine examples": (training_content(9), "invalid_n_examples", NINE),
    "one array of rows": (json.dumps([chat_row(0)] * 12).encode(), "invalid_training_file", "line 1"),
    "all weights are 0": (
        json_lines(row(USER, ANSWER | {"weight": 0}) for _ in range(12)), "invalid_training_file", "weight"
    ),
}  # fmt: skip
GOOD: dict[str, bytes] = {
    "CRLF": training_content().replace(b"\n", b"\r\n"),
    "no newline at the end": training_content().rstrip(b"\n"),
    "blank lines at the end": training_content() + b"\n  \n\r\n",
    "a byte order mark": b"\xef\xbb\xbf" + training_content(),
    "raw line separators": fourth(json.dumps(row(USER | {"content": "a\u2028b\x85c"}, ANSWER), ensure_ascii=False).encode()),
    "escapes": fourth(json.dumps(row(USER | {"content": "ä\U0001f600\x07/"}, ANSWER)).replace("/", "\\/").encode()),
    "a developer": fourth(row({"role": "developer", "content": "Be short."}, USER, ANSWER)),
    "names": fourth(row(USER | {"name": "ann"}, ANSWER | {"name": "bot"})),
    "text parts": fourth(row({"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}, ANSWER)),
    "weights": fourth(row(USER, ANSWER | {"weight": 0}, USER, ANSWER | {"weight": 1})),
    "tool calls": fourth(row(USER, call(), RESULT, ANSWER, tools=TOOLS, parallel_tool_calls=False)),
    "an empty answer": fourth(row(USER, ANSWER | {"content": ""})),
    "an answer alone": fourth(row(ANSWER)),
    "a greeting": fourth(row(ANSWER, USER, ANSWER)),
    "a tool call at the end": fourth(row(USER, call() | {"content": None}, tools=TOOLS)),
}  # fmt: skip


@pytest.fixture(scope="module")
def rules_client(server: RunningServer) -> openai.OpenAI:
    return server.client(server.new_key("rules"))


def ended(client: openai.OpenAI, training: bytes, validation: bytes | None = None) -> FineTuningJob:
    """The job that was asked for with these files, once they are read; it trains no longer than that, and not to its end."""
    job = client.fine_tuning.jobs.create(
        model="tiny-chat",
        training_file=upload(client, training).id,
        validation_file=openai.omit if validation is None else upload(client, validation).id,
        hyperparameters=ENDLESS,
    )
    read = wait_until(client, job.id, lambda job: job.status != "validating_files", "read")
    if read.status != "failed":
        cancel_or_ended(client, job.id)
    return read


def failed_with(client: openai.OpenAI, job: FineTuningJob, *, code: str, param: str) -> str:
    """The reason of a job that has failed as it should, which its last event repeats."""
    assert job.status == "failed"
    assert job.error is not None
    assert (job.error.code, job.error.param) == (code, param)
    assert (job.fine_tuned_model, job.result_files, job.estimated_finish) == (None, [], None)
    assert job.finished_at is not None
    newest = client.fine_tuning.jobs.list_events(job.id).data[0]
    assert (newest.level, newest.message) == ("error", job.error.message)
    return job.error.message


@pytest.mark.parametrize("content", DEFECTS_OF_A_LINE.values(), ids=DEFECTS_OF_A_LINE.keys())
def test_a_line_that_breaks_a_rule_fails_the_job_and_is_named(
    rules_client: openai.OpenAI, content: bytes | dict[str, Any]
) -> None:
    job = ended(rules_client, fourth(content))
    message = failed_with(rules_client, job, code="invalid_training_file", param="training_file")
    assert "line 4" in message.lower() or "Example 4" in message


@pytest.mark.parametrize(("content", "code", "words"), DEFECTS_OF_A_FILE.values(), ids=DEFECTS_OF_A_FILE.keys())
def test_a_file_that_breaks_a_rule_fails_the_job(
    rules_client: openai.OpenAI, content: bytes, code: str, words: str
) -> None:
    assert words in failed_with(rules_client, ended(rules_client, content), code=code, param="training_file")


def test_both_formats_are_named_where_a_row_is_of_another_method(rules_client: openai.OpenAI) -> None:
    job = ended(rules_client, fourth(DEFECTS_OF_A_LINE["a preference row"]))
    assert job.error is not None
    assert "dpo" in job.error.message
    assert "supervised" in job.error.message


def test_a_validation_file_has_the_same_rules(rules_client: openai.OpenAI) -> None:
    job = ended(rules_client, training_content(), fourth(row(USER)))
    message = failed_with(rules_client, job, code="invalid_validation_file", param="validation_file")
    assert "line 4" in message


def test_a_validation_file_of_one_example_is_enough(rules_client: openai.OpenAI) -> None:
    assert ended(rules_client, training_content(), training_content(1)).status in ("queued", "running")


@pytest.mark.parametrize("content", GOOD.values(), ids=GOOD.keys())
def test_what_must_be_taken_is_taken(rules_client: openai.OpenAI, content: bytes) -> None:
    job = ended(rules_client, content)
    assert job.status in ("queued", "running")
    assert job.error is None


def test_unknown_keys_are_told_of(rules_client: openai.OpenAI) -> None:
    job = ended(rules_client, fourth(row(USER | {"colour": "red"}, ANSWER, mood="good")))
    warnings = [event.message for event in rules_client.fine_tuning.jobs.list_events(job.id) if event.level == "warn"]
    assert any("colour" in text for text in warnings)
    assert any("mood" in text for text in warnings)


def test_a_bad_file_is_reported_while_another_job_trains(rules_client: openai.OpenAI, server: RunningServer) -> None:
    long = rules_client.fine_tuning.jobs.create(
        model=server.model,
        training_file=upload(rules_client, training_content(ENDLESS_ROWS)).id,
        hyperparameters=ENDLESS,
    )
    wait_for_status(rules_client, long.id, "running")
    assert ended(rules_client, b"nothing").status == "failed"
    assert rules_client.fine_tuning.jobs.retrieve(long.id).status == "running"
    rules_client.fine_tuning.jobs.cancel(long.id)
