from __future__ import annotations

import base64
import json
import socket
from collections.abc import Callable
from typing import Any

import pytest

from fettle.answering.endpoint_client import Patience
from fettle.answering.engine import GenerationOptions, JsonForm
from fettle.answering.engines.openai_http import OpenAIEngine
from fettle.errors import RemoteError, http_status
from fettle.records import FinishReason, Message, Prompt, Tool, ToolCall
from fettle.settings import get_settings
from local_endpoint import Endpoint, Reply, completion, endpoint, failure

OPTIONS = GenerationOptions(max_new_tokens=20)
SCHEMA = json.dumps({"type": "object", "properties": {"queue": {"type": "string"}}})


def prompts(*texts: str) -> list[Prompt]:
    return [
        Prompt(example_id=f"e{number}", messages=(Message(role="user", content=text),))
        for number, text in enumerate(texts)
    ]


def after_hello(answer: Callable[[dict[str, Any], int], Reply]) -> Callable[[dict[str, Any], int], Reply]:
    """The first request only asks whether anybody is there."""
    return lambda body, number: completion("hi") if number == 0 else answer(body, number - 1)


def test_answers_come_back_in_order_with_their_usage() -> None:
    with endpoint(lambda body, _: completion(f" echo {body['messages'][-1]['content']}\n")) as served:
        engine = OpenAIEngine(served.url, "some-model")
        asked = prompts(*(f"text {n}" for n in range(11)))
        answers = engine.generate(asked, OPTIONS)
    assert [answer.text for answer in answers] == [f"echo text {n}" for n in range(11)]
    assert [answer.example_id for answer in answers] == [prompt.example_id for prompt in asked]
    for answer in answers:
        assert answer.finish_reason is FinishReason.STOP
        assert answer.error is None
        assert answer.choice_log_likelihoods is None
        assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (7, 3)
    assert engine.name == f"some-model at {served.url}"
    for request in served.requests[1:]:
        assert (request["model"], request["max_tokens"], request["temperature"]) == ("some-model", 20, 0)
        assert "response_format" not in request


def test_an_answer_cut_at_its_length_says_so() -> None:
    with endpoint(lambda _body, _n: completion("half an", finish_reason="length")) as served:
        [answer] = OpenAIEngine(served.url, "m").generate(prompts("a"), OPTIONS)
    assert (answer.text, answer.finish_reason) == ("half an", FinishReason.LENGTH)


@pytest.mark.parametrize(
    "text", ["<think>Is it a refund?</think>\n\nrefund", "Is it a refund?\n</think>\nrefund", "refund"]
)
def test_a_thought_in_the_text_is_no_part_of_the_answer(text: str) -> None:
    with endpoint(lambda _body, _n: completion(text)) as served:
        [answer] = OpenAIEngine(served.url, "m").generate(prompts("a"), OPTIONS)
    assert answer.text == "refund"


@pytest.mark.parametrize("told_apart", [False, True])
def test_a_thought_that_used_up_the_answer_is_given_room(told_apart: bool) -> None:
    def reply(body: dict[str, Any], _number: int) -> Reply:
        has_room = body["max_tokens"] > 1000
        content = "refund" if has_room else ("" if told_apart else "<think>Let me see")
        made = completion(content, finish_reason="stop" if has_room else "length")
        if told_apart:
            made.body["choices"][0]["message"]["reasoning_content"] = "Let me see"
        return made

    with endpoint(after_hello(reply)) as served:
        engine = OpenAIEngine(served.url, "m")
        [first] = engine.generate(prompts("a"), OPTIONS)
        [second] = engine.generate(prompts("b"), OPTIONS)
    assert [(one.text, one.finish_reason) for one in (first, second)] == [("refund", FinishReason.STOP)] * 2
    assert len(served.requests) == 4  # hello, without room, with room, with room at once


def test_an_answer_that_is_really_cut_is_not_asked_for_again() -> None:
    with endpoint(lambda _body, _n: completion("half an", finish_reason="length")) as served:
        OpenAIEngine(served.url, "m").generate(prompts("a"), OPTIONS)
    assert len(served.requests) == 2


def test_a_refusal_is_what_was_answered() -> None:
    def reply(_body: dict[str, Any], _number: int) -> Reply:
        made = completion(None)
        made.body["choices"][0]["message"]["refusal"] = "I cannot help with that."
        return made

    with endpoint(reply) as served:
        [answer] = OpenAIEngine(served.url, "m").generate(prompts("a"), OPTIONS)
    assert answer.text == "I cannot help with that."


def test_batches_take_every_prompt_once() -> None:
    with endpoint(lambda _body, _n: completion("x")) as served:
        engine = OpenAIEngine(served.url, "m")
    assert engine.batches([]) == ()
    batches = engine.batches(prompts(*"abcdefghijklmnopqrs"))
    assert [index for batch in batches for index in batch] == list(range(19))
    assert all(len(batch) <= 8 for batch in batches)
    assert engine.max_tokens is None
    assert engine.count_prompt_tokens(prompts("x" * 400)[0]) > 50


def test_structured_output_is_asked_for_where_there_is_a_form() -> None:
    with endpoint(lambda _body, _n: completion('{"queue": "refund"}')) as served:
        options = GenerationOptions(max_new_tokens=20, form=JsonForm(schema=SCHEMA))
        OpenAIEngine(served.url, "m").generate(prompts("a"), options)
    asked = served.requests[1]["response_format"]
    assert asked["type"] == "json_schema"
    assert asked["json_schema"]["schema"] == json.loads(SCHEMA)


def no_structured_output(body: dict[str, Any], _number: int) -> Reply:
    return failure(400, "response_format is not supported") if "response_format" in body else completion("refund")


def test_an_endpoint_without_structured_output_is_asked_without_from_then_on() -> None:
    options = GenerationOptions(max_new_tokens=20, form=JsonForm(schema=SCHEMA))
    with endpoint(no_structured_output) as served:
        engine = OpenAIEngine(served.url, "m")
        first = engine.generate(prompts("a"), options)
        second = engine.generate(prompts("b"), options)
    assert [answer.text for answer in (*first, *second)] == ["refund", "refund"]
    assert ["response_format" in request for request in served.requests] == [False, True, False, False]


def test_one_bad_prompt_does_not_cost_the_others_their_structured_output() -> None:
    # 400 may also mean that this one prompt is too long.
    def answer(body: dict[str, Any], _number: int) -> Reply:
        too_long = body["messages"][-1]["content"] == "long"
        return failure(400, "context length exceeded") if too_long else completion("{}")

    options = GenerationOptions(max_new_tokens=20, form=JsonForm(schema=SCHEMA))
    with endpoint(answer) as served:
        engine = OpenAIEngine(served.url, "m")
        [failed] = engine.generate(prompts("long"), options)
        [fine] = engine.generate(prompts("short"), options)
    assert failed.finish_reason is FinishReason.ERROR
    assert "context length exceeded" in (failed.error or "")
    assert fine.text == "{}"
    assert "response_format" in served.requests[-1]


def reasoning(body: dict[str, Any], _number: int) -> Reply:
    for name in ("max_tokens", "temperature"):
        if name in body:
            return failure(400, f"Unsupported parameter: '{name}'. Use 'max_completion_tokens' instead.")
    return completion("thought out")


def test_a_reasoning_model_is_given_room_to_think_and_no_temperature() -> None:
    with endpoint(reasoning) as served:
        [answer] = OpenAIEngine(served.url, "m").generate(prompts("a"), OPTIONS)
    assert (answer.text, answer.error) == ("thought out", None)
    assert len(served.requests) == 3, "refused once, greeted, asked"
    assert served.requests[-1]["max_completion_tokens"] > 1000


def test_a_server_error_is_tried_again() -> None:
    with endpoint(after_hello(lambda _b, n: failure(500, "busy") if n < 2 else completion("there"))) as served:
        [answer] = OpenAIEngine(served.url, "m").generate(prompts("a"), OPTIONS)
    assert (answer.text, answer.error) == ("there", None)
    assert len(served.requests) == 4


def test_an_error_that_stays_is_one_failed_answer_not_the_end() -> None:
    def answer(body: dict[str, Any], _number: int) -> Reply:
        return failure(500, "kaputt") if body["messages"][-1]["content"] == "bad" else completion("fine")

    with endpoint(answer) as served:
        engine = OpenAIEngine(served.url, "m")
        good, bad, also_good = engine.generate(prompts("good", "bad", "good"), OPTIONS)
    assert (good.text, also_good.text) == ("fine", "fine")
    assert bad.finish_reason is FinishReason.ERROR
    assert bad.text == ""
    assert bad.usage.prompt_tokens == 0
    assert "kaputt" in (bad.error or "")


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def remote_error(url: str) -> RemoteError:
    with pytest.raises(RemoteError) as raised:
        OpenAIEngine(url, "no-model").require_reachable()
    assert raised.value.where == url
    assert "--remote" in (raised.value.remedy or "")
    return raised.value


def test_an_address_where_nobody_answers_is_an_error_at_once() -> None:
    error = remote_error(f"http://127.0.0.1:{free_port()}/v1")
    assert "no-model" in error.problem
    assert http_status(error) == 502


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_wrong_key_or_model_is_an_error_at_once(status: int) -> None:
    with endpoint(lambda _body, _n: failure(status, "not for you")) as served:
        assert "not for you" in remote_error(served.url).problem


MALFORMED = {
    "a page": Reply("<html>Sign in</html>", content_type="text/html"),
    "no json": Reply("{cut", content_type="application/json"),
    "no choices": Reply({"id": "c", "choices": []}),
    "null choices": Reply({"id": "c", "choices": None}),
    "choices of another kind": Reply({"id": "c", "choices": "refund"}),
    "no message": Reply({"id": "c", "choices": [{"index": 0, "finish_reason": "stop"}]}),
    "a list": Reply([1, 2]),
    "empty": Reply("", content_type="application/json"),
}


@pytest.mark.parametrize("kind", MALFORMED)
def test_a_malformed_answer_is_a_failed_answer(kind: str) -> None:
    with endpoint(after_hello(lambda _body, _n: MALFORMED[kind])) as served:
        [answer] = OpenAIEngine(served.url, "m").generate(prompts("a"), OPTIONS)
    assert answer.finish_reason is FinishReason.ERROR
    assert answer.error
    assert answer.text == ""
    assert answer.usage.prompt_tokens > 0  # it may be billed


@pytest.mark.parametrize("kind", ["a page", "no json", "a list"])
def test_something_else_at_the_address_is_an_error_at_once(kind: str) -> None:
    with endpoint(lambda _body, _n: MALFORMED[kind]) as served:
        assert remote_error(served.url).problem


def test_an_answer_without_text_or_usage_is_an_empty_answer() -> None:
    with endpoint(lambda _body, _n: completion(None, usage=False)) as served:
        [answer] = OpenAIEngine(served.url, "m").generate(prompts("x" * 80), OPTIONS)
    assert (answer.text, answer.finish_reason, answer.usage.completion_tokens) == ("", FinishReason.STOP, 0)
    assert answer.usage.prompt_tokens > 10  # estimated


@pytest.mark.parametrize("counts", [{}, {"prompt_tokens": -5, "completion_tokens": -7}, {"prompt_tokens": "many"}, [7]])
def test_an_answer_is_not_lost_for_token_counts_that_are_none(counts: Any) -> None:
    reply = completion("fine")
    with endpoint(lambda _body, _n: Reply({**reply.body, "usage": counts})) as served:
        [answer] = OpenAIEngine(served.url, "m").generate(prompts("a"), OPTIONS)
    assert (answer.text, answer.error) == ("fine", None)
    assert answer.usage.prompt_tokens > 0  # estimated
    assert answer.usage.completion_tokens == 0


def test_an_endpoint_that_serves_and_is_busy_at_first_is_greeted_again_with_the_next_request() -> None:
    patience = Patience(max_retries=0, pause_seconds=30.0)
    with endpoint(lambda _body, n: failure(429, "busy") if n == 0 else completion("fine")) as served:
        engine = OpenAIEngine(served.url, "m", patience=patience)
        first, second = (engine.generate(prompts("a"), OPTIONS)[0] for _ in range(2))
    assert "busy" in (first.error or "")
    assert (second.text, second.error) == ("fine", None)
    with endpoint(lambda _body, _n: failure(429, "busy")) as served:
        engine = OpenAIEngine(served.url, "m", patience=patience)
        for _ in range(12):
            assert engine.generate(prompts("a"), OPTIONS)[0].has_failed
    assert len(served.requests) == patience.max_failures


def test_nothing_is_sent_before_there_is_something_to_ask() -> None:
    with endpoint(lambda _body, _n: completion("x")) as served:
        engine = OpenAIEngine(served.url, "m")
        engine.batches(prompts("a"))
        assert served.requests == []
        engine.require_reachable()
        engine.generate(prompts("a"), OPTIONS)
        engine.generate(prompts("b"), OPTIONS)
    assert len(served.requests) == 3, "greeted once"


def test_an_endpoint_that_is_gone_fails_every_prompt_without_being_asked_each_time() -> None:
    engine = OpenAIEngine(f"http://127.0.0.1:{free_port()}/v1", "m")
    answers = engine.generate(prompts("a", "b"), OPTIONS)
    assert [answer.finish_reason for answer in answers] == [FinishReason.ERROR] * 2
    assert all((answer.error or "").startswith("not asked: the endpoint does not answer") for answer in answers)


def test_an_endpoint_that_fails_eight_times_in_a_row_is_asked_no_more() -> None:
    with endpoint(after_hello(lambda _body, _n: failure(401, "key expired"))) as served:
        engine = OpenAIEngine(served.url, "m")
        first = engine.generate(prompts(*"abcdefgh"), OPTIONS)
        num_asked = len(served.requests)
        rest = (*engine.generate(prompts(*"ij"), OPTIONS), *engine.choose(prompts("k"), ["refund"]))
    assert {answer.error for answer in first} == {"HTTP 401: key expired"}
    assert {answer.error for answer in rest} == {"not asked: the endpoint failed 8 times in a row"}
    assert all(answer.finish_reason is FinishReason.ERROR for answer in rest)
    assert num_asked == len(served.requests) == 9


def test_refused_prompts_do_not_stop_the_others_from_being_asked() -> None:
    with endpoint(after_hello(lambda _body, _n: failure(422, "filtered"))) as served:
        engine = OpenAIEngine(served.url, "m")
        answers = [answer for _ in range(3) for answer in engine.generate(prompts(*"abcdefgh"), OPTIONS)]
    assert {answer.error for answer in answers} == {"HTTP 422: filtered"}
    assert len(served.requests) == 1 + 24


def test_what_may_be_secret_in_the_address_is_sent_and_never_shown() -> None:
    with endpoint(lambda _body, _n: completion("x")) as served:
        secret = served.url.replace("http://", "http://user:pw123@") + "?code=hidden"
        engine = OpenAIEngine(secret, "m")
        [answer] = engine.generate(prompts("a"), OPTIONS)
    assert answer.text == "x"
    assert engine.name == f"m at {served.url}"
    assert set(served.keys) == {"Basic " + base64.b64encode(b"user:pw123").decode()}
    assert set(served.paths) == {"/v1/chat/completions?code=hidden"}
    with pytest.raises(RemoteError) as raised:
        OpenAIEngine(f"http://user:pw123@127.0.0.1:{free_port()}/v1?code=hidden", "m").require_reachable()
    assert not any(secret in str(raised.value) for secret in ("user", "pw123", "hidden"))


def test_a_key_that_the_endpoint_repeats_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FETTLE_REMOTE_API_KEY", "sk-hidden-123")
    get_settings.cache_clear()
    repeated = "y" * 280 + " no: sk-hidden-123"  # where it is cut, no part of the key stays
    with endpoint(after_hello(lambda _body, _n: failure(401, repeated))) as served:
        [answer] = OpenAIEngine(served.url, "m").generate(prompts("a"), OPTIONS)
        assert served.keys[-1] == "Bearer sk-hidden-123"
    get_settings.cache_clear()
    assert (answer.error or "").startswith("HTTP 401: yyy")
    assert "sk-" not in (answer.error or "")


def test_an_endpoint_is_not_asked_again_once_nobody_waits_any_more() -> None:
    later = Reply({"error": {"message": "busy"}}, 429, headers={"Retry-After": "3"})
    with endpoint(after_hello(lambda _body, _n: later)) as served:
        engine = OpenAIEngine(served.url, "m", patience=Patience(timeout_seconds=2.0, max_retries=1))
        [answer] = engine.generate(prompts("a"), OPTIONS)
    assert "busy" in (answer.error or "")
    assert len(served.requests) == 2  # with the greeting


def test_nobody_else_is_asked_where_an_endpoint_says_so() -> None:
    with endpoint(lambda _body, _n: completion("stolen")) as other:
        elsewhere = Reply("", 307, headers={"Location": f"{other.url}/chat/completions?session=hidden"})
        with endpoint(after_hello(lambda _body, _n: elsewhere)) as served:
            [answer] = OpenAIEngine(served.url, "m").generate(prompts("a"), OPTIONS)
        assert not other.requests
    assert answer.has_failed
    assert f"asked at {other.url}/chat/completions" in (answer.error or "")
    assert "hidden" not in (answer.error or "")


WRAPPED = {
    '```json\n{"label": "refund"}\n```': "refund",
    '```json {"label":"refund"} ```': "refund",
    '```{"label":"refund"}```': "refund",
    'Sure! Here it is:\n\n```\n{"label": "refund"}\n```\nAnything else?': "refund",
    '{"label": null}': "",
    '```json\n{"label": null}\n```': "",
    '{"label": 7}': "7",
    '{"label": true}': "true",
    '```\n{"label": "a"}\n``` or ```\n{"label": "b"}\n```': None,
    "```\nrefund\n```": None,
    "```json": None,
}


@pytest.mark.parametrize("text", WRAPPED)
def test_a_label_is_found_in_one_code_fence(text: str) -> None:
    with endpoint(after_hello(lambda _body, _n: completion(text))) as served:
        [answer] = _engine(served).choose(prompts("a"), ["refund", "late parcel"])
    expected = WRAPPED[text]
    assert answer.text == (text if expected is None else expected)
    assert answer.finish_reason is FinishReason.STOP


def test_choices_are_asked_for_as_an_enum_and_unwrapped() -> None:
    replies = ['{"label": "refund"}', "late parcel", '{"other": 1}', '["refund"]', "Refund, I think"]

    def answer(body: dict[str, Any], _number: int) -> Reply:
        return completion(replies[int(body["messages"][-1]["content"])])

    with endpoint(after_hello(answer)) as served:
        engine = _engine(served)
        answers = engine.choose(prompts("0", "1", "2", "3", "4"), ["refund", "late parcel"])
    assert [answer.text for answer in answers] == ["refund", "late parcel", '{"other": 1}', '["refund"]', replies[4]]
    schema = served.requests[-1]["response_format"]["json_schema"]["schema"]
    assert schema["properties"]["label"]["enum"] == ["refund", "late parcel"]


def _engine(served: Endpoint) -> OpenAIEngine:
    return OpenAIEngine(served.url, "m")


def test_tools_and_earlier_calls_reach_the_endpoint() -> None:
    call = ToolCall(id="call1", name="seats", arguments='{"city": "Rome"}')
    asked = Prompt(
        example_id="e",
        messages=(
            Message(role="user", content="Seats?"),
            Message(role="assistant", content="", tool_calls=(call,)),
            Message(role="tool", content="12", tool_call_id="call1", name="seats"),
        ),
        tools=(Tool(name="seats", parameters='{"type": "object"}'),),
    )
    with endpoint(lambda _body, _n: completion("Twelve.")) as served:
        OpenAIEngine(served.url, "m").generate([asked], OPTIONS)
    sent = served.requests[-1]
    assert sent["tools"][0]["function"]["name"] == "seats"
    wire = {"id": "call1", "type": "function", "function": {"name": "seats", "arguments": '{"city": "Rome"}'}}
    assert sent["messages"][1]["tool_calls"] == [wire]
    assert sent["messages"][2] == {"role": "tool", "content": "12", "tool_call_id": "call1"}
