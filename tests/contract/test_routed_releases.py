"""Routers and endpoints by the official SDK over real HTTP: who answers, what is said of it, and what is done where nobody can."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, Literal

import httpx2
import openai
import pytest
from chat_server import ChatServer, serving_chat

from fettle.form_records import AnswerForm
from fettle.records import Message
from fettle.releases.records import ContenderKind, Release, ReleasedContender, Router
from fettle.releases.routed import Errand, RoutedReleases
from fettle.routing.budget import utc_today
from fettle.routing.router import RoutedAnswer
from fettle.routing_records import RoutingRule
from fettle.store.database import Store
from fettle.store.router_budget import RouterDay, read_spending
from kept_releases import keep_release
from local_endpoint import Endpoint, Reply, completion, endpoint, failure

pytestmark = pytest.mark.any_database

QUESTION = "Where is parcel 7?"
LABELS = ("billing", "lost parcel", "refund")
ALWAYS, NEVER = -1e6, 1e6
"""Thresholds from which on the small contender is trusted."""


class Served:
    """A server, its store, and the endpoint that large contenders are asked at."""

    def __init__(self, server: ChatServer, store: Store, large: Endpoint) -> None:
        self.server, self.store, self.large = server, store, large

    def small(self, **values: Any) -> ReleasedContender:
        return ReleasedContender(
            kind=ContenderKind.TUNED, model=self.server.tuned[0], instruction="You are a clerk.", **values
        )

    def remote(self, url: str | None = None, **values: Any) -> ReleasedContender:
        return ReleasedContender(
            kind=ContenderKind.REMOTE,
            model="large-model",
            instruction="You are the head clerk.",
            url=url or self.large.url,
            **values,
        )

    def release(
        self,
        name: str,
        threshold: float | None,
        *,
        fails: Literal["fail", "answer_small"] = "fail",
        url: str | None = None,
        labels: tuple[str, ...] = (),
        **values: Any,
    ) -> str:
        form = AnswerForm(labels=labels) if labels else None
        measure = "label_margin" if labels else "mean_token_log_probability"
        reading = "label likelihood" if labels else None
        router = Router(
            small=self.small(form=form),
            large=self.remote(url, form=form),
            rule=RoutingRule(measure=measure, threshold=threshold, labels=labels, reading=reading),
            policy_when_large_fails=fails,
            **values,
        )
        return str(keep_release(self.store, name, router))

    def ask(self, model: str, **options: Any) -> Any:
        messages: Any = [{"role": "user", "content": QUESTION}]
        return self.server.client().chat.completions.create(
            model=model, messages=messages, **({"max_tokens": 6} | options)
        )


def says_large(body: dict[str, Any], number: int) -> Reply:
    return completion("It is in Leeds.")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("routed")
    with ExitStack() as stack:
        large = stack.enter_context(endpoint(says_large))
        server = stack.enter_context(serving_chat(folder, num_adapters=1))
        store = Store(folder / "home")
        stack.callback(store.close)
        yield Served(server, store, large)


def test_what_the_small_one_is_sure_of_it_answers_and_nobody_else_is_asked(served: Served) -> None:
    alone = str(keep_release(served.store, "alone", served.small()))
    before = len(served.large.requests)
    answer = served.ask(served.release("sure", ALWAYS))
    wanted = served.ask(alone)
    assert answer.choices[0].message.content == wanted.choices[0].message.content
    assert answer.usage == wanted.usage
    said = answer.release
    assert said["confidence"] < 0
    assert {**said, "confidence": 0} == {
        "name": "sure", "number": 1, "contender": "router",
        "answered_by": "small", "reason": "trusted", "confidence": 0,
    }  # fmt: skip
    assert len(served.large.requests) == before


def test_what_it_is_not_sure_of_goes_to_the_large_one_with_its_own_instruction(served: Served) -> None:
    name = served.release("unsure", NEVER)
    answer = served.ask(name)
    assert answer.choices[0].message.content == "It is in Leeds."
    assert answer.choices[0].finish_reason == "stop"
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (7, 3)
    assert (answer.release["answered_by"], answer.release["reason"]) == ("large", "not trusted")
    assert answer.model == name
    sent = served.large.requests[-1]
    assert sent["messages"] == [
        {"role": "system", "content": "You are the head clerk."},
        {"role": "user", "content": QUESTION},
    ]
    assert (sent["model"], sent["max_tokens"], sent["temperature"]) == ("large-model", 6, 0)


def test_a_stream_begins_when_it_is_decided_and_says_the_same(served: Served) -> None:
    name = served.release("streamed", NEVER)
    chunks = list(served.ask(name, stream=True, stream_options={"include_usage": True}))
    said = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(said) == "It is in Leeds."
    assert {chunk.release["answered_by"] for chunk in chunks} == {"large"}
    assert len({chunk.id for chunk in chunks}) == 1
    assert chunks[-1].usage.completion_tokens == 3
    assert chunks[-2].choices[0].finish_reason == "stop"


def test_responses_are_routed_too(served: Served) -> None:
    name = served.release("responded", NEVER)
    raw = served.server.client().responses.with_raw_response.create(model=name, input=QUESTION, max_output_tokens=6)
    assert raw.headers["x-fettle-release"] == name
    response = raw.parse()
    assert response.output_text == "It is in Leeds."
    assert response.usage is not None
    assert response.usage.output_tokens == 3
    assert response.to_dict()["release"]["answered_by"] == "large"
    events = list(served.server.client().responses.create(model=name, input=QUESTION, stream=True))
    assert "".join(one.delta for one in events if one.type == "response.output_text.delta") == "It is in Leeds."


def test_labels_are_chosen_by_their_likelihood_and_the_endpoint_is_asked_for_one(served: Served) -> None:
    answer = served.ask(served.release("queues", ALWAYS, labels=LABELS))
    assert answer.choices[0].message.content in LABELS
    assert answer.release["answered_by"] == "small"
    assert answer.release["confidence"] >= 0  # the likeliest label has a margin to the next
    served.ask(served.release("queues", NEVER, labels=LABELS))
    form = served.large.requests[-1]["response_format"]
    assert form["json_schema"]["schema"]["properties"]["label"]["enum"] == list(LABELS)


def test_where_the_large_one_is_down_the_policy_decides(served: Served) -> None:
    with endpoint(lambda body, number: failure(500, "overloaded")) as down:
        with pytest.raises(openai.InternalServerError, match="overloaded") as failed:
            served.ask(served.release("down", NEVER, url=down.url))
        assert failed.value.status_code == 502
        given = served.ask(served.release("down", NEVER, url=down.url, fails="answer_small"))
        assert (given.release["answered_by"], given.release["reason"]) == ("small", "large failed")
        assert given.choices[0].message.content == served.ask("alone@1").choices[0].message.content


def test_an_endpoint_that_fails_again_and_again_is_not_asked_for_a_while(served: Served) -> None:
    with endpoint(lambda body, number: completion("Hi") if number == 0 else failure(500, "overloaded")) as down:
        name = served.release("broken", NEVER, url=down.url, fails="answer_small")
        for _ in range(8):
            served.ask(name)
        asked = len(down.requests)
        assert served.ask(name).release["reason"] == "large failed"
        assert len(down.requests) == asked


def test_where_the_large_one_is_slow_the_policy_decides(served: Served) -> None:
    let_go = threading.Event()

    def slow(body: dict[str, Any], number: int) -> Reply:
        let_go.wait(30)
        return completion("Late.")

    with endpoint(slow) as late:
        given = served.ask(served.release("slow", NEVER, url=late.url, fails="answer_small", large_timeout_seconds=0.1))
        assert (given.release["answered_by"], given.release["reason"]) == ("small", "large slow")
        with pytest.raises(openai.InternalServerError, match=r"no answer within 0\.1 seconds") as failed:
            served.ask(served.release("slow", NEVER, url=late.url, large_timeout_seconds=0.1))
        assert failed.value.status_code == 502
        let_go.set()


def test_a_days_budget_stops_at_its_limit_for_all_releases_of_a_name(served: Served) -> None:
    money = {"budget_per_day": 0.025, "large_cost_per_request": 0.01}
    strict = served.release("dear", NEVER, **money)
    assert [served.ask(strict).release["answered_by"] for _ in range(2)] == ["large", "large"]
    with pytest.raises(openai.RateLimitError, match="budget for the large model is spent"):
        served.ask(strict)
    kind = served.release("dear", NEVER, fails="answer_small", **money)
    given = served.ask(kind)
    assert (given.release["answered_by"], given.release["reason"]) == ("small", "budget spent")
    with served.store.reading() as connection:
        project_id = keep_release(served.store, "other", served.small()).project_id
        spent = read_spending(connection, RouterDay(project_id=project_id, name="dear", day=utc_today()))
    assert (spent.spent, spent.reserved) == (pytest.approx(0.02), 0.0)


@pytest.mark.parametrize(
    ("field", "options"),
    [
        ("n", {"n": 2}),
        ("logprobs", {"logprobs": True}),
        ("stop", {"stop": ["."]}),
        ("temperature", {"temperature": 0.7}),
        ("response_format", {"response_format": {"type": "json_object"}}),
        ("tools", {"tools": [{"type": "function", "function": {"name": "look", "parameters": {}}}]}),
    ],
)
def test_what_the_study_did_not_ask_for_is_refused_by_its_field(
    served: Served, field: str, options: dict[str, Any]
) -> None:
    name = "plain@1" if field != "n" else served.release("plain", ALWAYS)
    with pytest.raises(openai.BadRequestError) as refused:
        served.ask(name, **options)
    assert refused.value.param == field
    assert served.ask(name, temperature=0, seed=3, top_p=0.5).release["answered_by"] == "small"


def test_an_endpoint_alone_answers_to_a_name(served: Served) -> None:
    name = str(keep_release(served.store, "far", served.remote()))
    answer = served.ask(name)
    assert answer.choices[0].message.content == "It is in Leeds."
    assert answer.release == {"name": "far", "number": 1, "contender": "remote"}
    with endpoint(lambda body, number: failure(503, "down for the night")) as down:
        gone = str(keep_release(served.store, "gone", served.remote(down.url)))
        with pytest.raises(openai.InternalServerError, match="down for the night") as failed:
            served.ask(gone)
        assert failed.value.status_code == 502


def test_the_large_one_may_be_of_this_machine_and_then_no_endpoint_is_asked(served: Served) -> None:
    before = len(served.large.requests)
    large = ReleasedContender(
        kind=ContenderKind.FEW_SHOT,
        model=served.server.tuned[0].split(":")[1],
        shots=(Message(role="user", content="Hi"), Message(role="assistant", content="Hello")),
    )
    router = Router(
        small=served.small(),
        large=large,
        rule=RoutingRule(measure="mean_token_log_probability", threshold=NEVER),
        policy_when_large_fails="fail",
    )
    answer = served.ask(str(keep_release(served.store, "near", router)))
    alone = served.ask(str(keep_release(served.store, "near", large)))
    assert answer.choices[0].message.content == alone.choices[0].message.content
    assert answer.release["answered_by"] == "large"
    assert len(served.large.requests) == before
    cut = replace(router, small=replace(router.small, model="ft:none"))
    kept = keep_release(served.store, "near", router)
    _change_contender(served.store, kept.number, cut)
    with pytest.raises(openai.InternalServerError, match="not what was signed"):
        served.ask(str(kept))


def _change_contender(store: Store, number: int, router: Router) -> None:
    from sqlalchemy import update

    from fettle.releases.signing import contender_as_json
    from fettle.store.release_tables import releases

    with store.writing() as connection:
        of_name = (releases.c.name == "near", releases.c.release_number == number)
        connection.execute(update(releases).where(*of_name).values(contender=contender_as_json(router)))


def test_nobody_else_is_asked_for_a_client_that_has_hung_up(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    has_come, is_given_up, is_over = threading.Event(), threading.Event(), threading.Event()
    route, give_up = RoutedReleases.route, Errand.give_up

    def routed(self: RoutedReleases, release: Release, errand: Errand) -> RoutedAnswer:
        has_come.set()
        try:
            assert is_given_up.wait(60)
            return route(self, release, errand)
        finally:
            is_over.set()

    def given_up(self: Errand) -> None:
        give_up(self)
        is_given_up.set()

    monkeypatch.setattr(RoutedReleases, "route", routed)
    monkeypatch.setattr(Errand, "give_up", given_up)
    name, before = served.release("left", NEVER), len(served.large.requests)
    address = served.server.url.removeprefix("http://").split(":")
    connection = http.client.HTTPConnection(address[0], int(address[1]))
    body = json.dumps({"max_tokens": 6, "model": name, "messages": [{"role": "user", "content": QUESTION}]})
    connection.request("POST", "/v1/chat/completions", body, {
        "Authorization": f"Bearer {served.server.key}", "Content-Type": "application/json",
    })  # fmt: skip
    assert has_come.wait(60)
    connection.close()
    assert is_over.wait(60)
    assert len(served.large.requests) == before


def test_who_has_answered_is_counted(served: Served) -> None:
    served.ask(served.release("counted", ALWAYS))
    text = httpx2.get(f"{served.server.url}/metrics").text
    assert 'fettle_routed_total{answered_by="small",reason="trusted"}' in text
