"""Grading models behind a real endpoint on this machine."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fettle.errors import RemoteError
from fettle.records import Message
from fettle.scoring.endpoint_sampler import EndpointSampler
from fettle.scoring.openai_grader import Question, SamplingParams, TokenUsage
from local_endpoint import Reply, completion, endpoint, failure

SCHEMA = json.dumps({"type": "object"})


def question(text: str, *, model: str = "judge", **params: Any) -> Question:
    messages = (Message(role="user", content=text),)
    return Question(model=model, messages=messages, json_schema=SCHEMA, params=SamplingParams(**params))


def test_what_the_grader_says_of_sampling_is_sent_and_replies_keep_their_places() -> None:
    def echo(body: dict[str, Any], _number: int) -> Reply:
        return completion(f"{body['model']} read {body['messages'][-1]['content']}")

    with endpoint(echo) as served:
        sampler = EndpointSampler(served.url)
        asked = [
            question("a"),
            question("b", model="other"),
            question("c", temperature=0.5, seed=3, reasoning_effort="low"),
        ]
        replies = sampler.ask([*asked, question("d", max_completion_tokens=9)])
    assert [reply.text for reply in replies] == ["judge read a", "other read b", "judge read c", "judge read d"]
    assert replies[0].usage == TokenUsage(prompt_tokens=7, completion_tokens=3)
    sent = {
        body["messages"][-1]["content"]: body for body in served.requests if body["messages"][-1]["content"] != "Hi"
    }
    assert (sent["a"]["temperature"], sent["a"]["max_tokens"]) == (0, 1024)
    assert (sent["c"]["temperature"], sent["c"]["seed"], sent["c"]["reasoning_effort"]) == (0.5, 3, "low")
    assert sent["d"]["max_tokens"] == 9
    assert sent["a"]["response_format"]["json_schema"]["schema"] == {"type": "object"}


def test_a_request_that_fails_says_so_and_the_others_stand() -> None:
    def answer(body: dict[str, Any], _number: int) -> Reply:
        return failure(422, "too rude") if body["messages"][-1]["content"] == "b" else completion("fine")

    with endpoint(answer) as served:
        replies = EndpointSampler(served.url).ask([question("a"), question("b")])
    assert [reply.error for reply in replies] == [None, "HTTP 422: too rude"]


def test_an_endpoint_that_does_not_answer_is_told_with_the_options_of_graders() -> None:
    with endpoint(lambda _body, _number: failure(404, "no such model")) as served:
        with pytest.raises(RemoteError, match=r"does not answer for model 'judge' .HTTP 404: no such model") as caught:
            EndpointSampler(served.url).require_reachable(["judge"])
        assert "--grader-url" in str(caught.value.remedy)
