"""Text that comes in parts is one text: the same in training, chats, responses and evals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fettle.jobs.training_rows import FileRole, read_training_rows
from fettle.records import Message
from fettle.scoring.openai_graders.wire import MessageWire
from fettle.server.chat_bodies import CreateChatCompletion
from fettle.server.errors import ApiError
from fettle.server.response_bodies import CreateResponse

pytestmark = pytest.mark.any_database

REFUSED = [{"type": "refusal", "refusal": "I cannot."}]


def parts(kind: str) -> list[dict[str, str]]:
    return [{"type": kind, "text": "Hello."}, {"type": kind, "text": "Where is it?"}]


def chatted(*messages: dict[str, Any]) -> tuple[Message, ...]:
    return CreateChatCompletion.model_validate({"model": "m", "messages": messages}).as_request().messages


def responded(*messages: dict[str, Any]) -> tuple[Message, ...]:
    return CreateResponse.model_validate({"model": "m", "input": messages}).as_request().messages


def test_parts_are_joined_alike_everywhere(tmp_path: Path) -> None:
    user = {"role": "user", "content": parts("text")}
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps({"messages": [user, {"role": "assistant", "content": "Here."}]}))
    trained = read_training_rows(file, FileRole.TRAINING, name="file-1").examples[0].messages[0]
    response_user = user | {"content": parts("input_text")}
    in_eval = MessageWire.model_validate(response_user)
    texts = [trained.content, chatted(user)[0].content, responded(response_user)[0].content, in_eval.content]
    assert texts == ["Hello.\nWhere is it?"] * 4


def test_a_refusal_in_the_history_is_its_text() -> None:
    user, refused = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": REFUSED}
    for messages in (chatted(user, refused, user), responded(user, refused, user)):
        assert [message.content for message in messages] == ["Hi", "I cannot.", "Hi"]
    for ask in (chatted, responded):
        with pytest.raises(ApiError, match="refusal"):
            ask({"role": "user", "content": REFUSED})
