"""Kept requests and feedback by the official SDK, over real HTTP."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from chat_server import BASE, ChatServer, serving_chat
from openai import OpenAI

from fettle.form_records import AnswerForm
from fettle.releases.changing import promote
from fettle.releases.records import ContenderKind, ReleasedContender, Router
from fettle.routing_records import RoutingRule
from fettle.store.database import Store
from fettle.store.keys import create_key, list_keys, list_projects
from fettle.store.traffic import KeptRequest, TrafficRule, read_kept, set_rule
from kept_releases import keep_release

pytestmark = pytest.mark.any_database

ASKED: list[Any] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "I am at grace.hopper@example.com, where is my parcel?"},
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kept")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[ChatServer]:
    with serving_chat(folder) as running:
        yield running


@pytest.fixture(scope="module")
def store(server: ChatServer, folder: Path) -> Iterator[Store]:
    """The store of the running server."""
    opened = Store(folder / "home")
    yield opened
    opened.close()


class Program:
    """A program with a key of its own in a project of its own."""

    def __init__(self, server: ChatServer, store: Store, rule: dict[str, Any] | None) -> None:
        number = len(list_keys(store))
        secret, key = create_key(store, "test", f"project-{number}")
        self.store, self.project_id = store, key.project_id
        if rule is not None:
            set_rule(store, TrafficRule(key_id=key.id, **rule))
        self.client = OpenAI(base_url=f"{server.url}/v1", api_key=secret, max_retries=0, timeout=120)

    def ask(self, **more: Any) -> Any:
        return self.client.chat.completions.create(model=BASE, messages=ASKED, max_tokens=6, **more)

    def give(self, **body: Any) -> Any:
        return self.client.post("/feedback", cast_to=object, body=body)

    def kept(self) -> tuple[KeptRequest, ...]:
        with self.store.reading() as connection:
            return read_kept(connection, self.project_id)

    def kept_once_written(self, number: int) -> tuple[KeptRequest, ...]:
        """Feedback on a completion waits until it is written, so nothing here has to."""
        for _ in range(200):
            if len(found := self.kept()) >= number:
                return found
            httpx2.get(str(self.client.base_url).replace("/v1/", "/health"))
        raise AssertionError(f"{len(self.kept())} requests were kept, not {number}")


# A rule is known to the server within two seconds; making all programs before the first request makes waiting needless.
@pytest.fixture(scope="module")
def programs(server: ChatServer, store: Store) -> dict[str, Program]:
    rules: dict[str, dict[str, Any] | None] = {
        "keeping": {"num_days": 30},
        "as it is": {"num_days": 30, "redacts": False},
        "a little": {"num_days": 30, "share": 1e-9},
        "other": {"num_days": 30},
        "nothing": None,
    }
    return {name: Program(server, store, rule) for name, rule in rules.items()}


@pytest.fixture
def program(programs: dict[str, Program]) -> Program:
    return programs["keeping"]


def test_feedback_on_an_answer_is_taken_at_once_and_listed(program: Program) -> None:
    answer = program.ask()
    said = program.give(completion_id=answer.id, thumb="down", corrected_answer="It arrives today.")
    assert re.fullmatch(r"fdbk_[0-9A-Za-z]{24}", said["id"])
    assert (said["object"], said["completion_id"], said["score"]) == ("feedback", answer.id, 0.0)
    assert (said["corrected_answer"], said["comment"]) == ("It arrives today.", None)
    listed: Any = program.client.get(f"/feedback?completion_id={answer.id}", cast_to=object)
    assert listed == {
        "object": "list",
        "data": [said],
        "first_id": said["id"],
        "last_id": said["id"],
        "has_more": False,
    }


def test_personal_data_are_replaced_before_anything_is_written(program: Program) -> None:
    answer = program.ask()
    program.give(completion_id=answer.id, corrected_answer="Write to ada@example.org.", comment="ask ada@example.org")
    [kept] = [one for one in program.kept() if one.id == answer.id]
    assert kept.request == {"messages": [ASKED[0], {"role": "user", "content": "I am at [email], where is my parcel?"}]}
    assert kept.is_redacted
    listed: Any = program.client.get(f"/feedback?completion_id={answer.id}", cast_to=object)
    assert (listed["data"][0]["corrected_answer"], listed["data"][0]["comment"]) == ("Write to [email].", "ask [email]")


def test_whole_answers_streams_and_responses_are_kept_alike(programs: dict[str, Program]) -> None:
    program = programs["as it is"]
    whole = program.ask(seed=1, temperature=0, logprobs=True)
    chunks = list(program.ask(seed=1, temperature=0, stream=True))
    response = program.client.responses.create(model=BASE, input=ASKED, max_output_tokens=16, temperature=0)
    events = list(
        program.client.responses.create(model=BASE, input=ASKED, max_output_tokens=16, temperature=0, stream=True)
    )
    of_stream: Any = events[-1]
    by_id = {one.id: one for one in program.kept_once_written(4)}
    assert set(by_id) == {whole.id, chunks[0].id, response.id, of_stream.response.id}
    first, second = by_id[whole.id], by_id[chunks[0].id]
    assert first.answer == second.answer == {"role": "assistant", "content": whole.choices[0].message.content}
    assert first.request == second.request == by_id[response.id].request == {"messages": ASKED}
    assert by_id[response.id].answer == {"role": "assistant", "content": response.output_text}
    assert (first.num_prompt_tokens, first.num_completion_tokens) == (
        whole.usage.prompt_tokens,
        whole.usage.completion_tokens,
    )
    assert first.confidence == pytest.approx(
        sum(one.logprob for one in whole.choices[0].logprobs.content) / whole.usage.completion_tokens
    )
    assert second.confidence is None
    assert first.seconds > 0
    program.give(completion_id=of_stream.response.id, score=0.5)


def test_what_functions_are_called_with_is_kept(programs: dict[str, Program]) -> None:
    tool: Any = {"type": "function", "function": {"name": "close", "parameters": {"type": "object", "properties": {}}}}
    program = programs["other"]
    answer = program.ask(tools=[tool])
    program.give(completion_id=answer.id, score=1)
    [kept] = [one for one in program.kept() if one.id == answer.id]
    assert kept.request is not None
    assert [one["function"]["name"] for one in kept.request["tools"]] == ["close"]


def test_of_one_answer_not_everything_is_taken(program: Program) -> None:
    answer = program.ask()
    for _ in range(100):
        program.give(completion_id=answer.id, score=1)
    with pytest.raises(openai.BadRequestError, match="no more are taken"):
        program.give(completion_id=answer.id, score=1)


def test_of_a_label_the_share_of_its_likelihood_is_kept_and_of_a_router_what_it_went_by(
    programs: dict[str, Program], store: Store
) -> None:
    program, labels = programs["other"], ("lost parcel", "refund", "other")
    with store.reading() as connection:
        project = list_projects(connection)[program.project_id].name
    form = AnswerForm(labels=labels, reading="label likelihood")
    clerk = ReleasedContender(kind=ContenderKind.PROMPT, model=BASE, form=form)
    rule = RoutingRule(measure="label_margin", threshold=0.0, labels=labels, reading="label likelihood")
    router = Router(small=clerk, large=clerk, rule=rule, policy_when_large_fails="fail")
    answers = []
    for name, contender in (("queues", clerk), ("routed", router)):
        keep_release(store, name, contender, project=project)
        promote(store, program.project_id, name, 1, who="tester")
        answers.append(program.client.chat.completions.create(model=name, messages=ASKED))
        program.give(completion_id=answers[-1].id, score=1)
    by_id = {one.id: one.confidence for one in program.kept()}
    of_label, of_router = (by_id[one.id] for one in answers)
    assert of_label is not None
    assert of_label < 0
    assert math.exp(of_label) > 1 / len(labels), "it is the likeliest one"
    assert of_router == answers[1].to_dict()["release"]["confidence"]
    assert of_router >= 0


def test_of_requests_outside_the_share_no_text_is_kept_and_no_correction_taken(programs: dict[str, Program]) -> None:
    program = programs["a little"]
    answer = program.ask()
    assert program.give(completion_id=answer.id, score=0.25)["score"] == 0.25
    [kept] = [one for one in program.kept() if one.id == answer.id]
    assert (kept.request, kept.answer) == (None, None)
    with pytest.raises(openai.BadRequestError, match="texts are not kept") as caught:
        program.give(completion_id=answer.id, corrected_answer="Today.")
    assert caught.value.param == "corrected_answer"


def test_nothing_is_kept_unless_the_key_says_so(programs: dict[str, Program]) -> None:
    program = programs["nothing"]
    answer = program.ask()
    with pytest.raises(openai.NotFoundError, match="keep-traffic") as caught:
        program.give(completion_id=answer.id, thumb="up")
    assert (caught.value.code, caught.value.param) == ("completion_not_kept", "completion_id")
    assert program.kept() == ()


def test_other_projects_completions_do_not_exist(programs: dict[str, Program], program: Program) -> None:
    answer = program.ask()
    program.give(completion_id=answer.id, thumb="up")
    with pytest.raises(openai.NotFoundError):
        programs["other"].give(completion_id=answer.id, thumb="down")
    listed: Any = programs["other"].client.get(f"/feedback?completion_id={answer.id}", cast_to=object)
    assert listed["data"] == []


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "completion_id"),
        ({"completion_id": "chatcmpl-x"}, "score"),
        ({"completion_id": "chatcmpl-x", "score": 1.5}, "score"),
        ({"completion_id": "chatcmpl-x", "score": "good"}, "score"),
        ({"completion_id": "chatcmpl-x", "score": 1, "thumb": "up"}, "thumb"),
        ({"completion_id": "chatcmpl-x", "thumb": "sideways"}, "thumb"),
        ({"completion_id": "chatcmpl-x", "corrected_answer": ""}, "corrected_answer"),
        ({"completion_id": "chatcmpl-x", "score": 1, "stars": 5}, "stars"),
    ],
)
def test_feedback_of_a_wrong_form_is_refused_in_the_apis_words(
    program: Program, body: dict[str, Any], param: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        program.client.post("/feedback", cast_to=object, body=body)
    assert caught.value.param == param


def test_feedback_comes_in_pages(program: Program) -> None:
    answer = program.ask()
    said = [program.give(completion_id=answer.id, score=score)["id"] for score in (0, 0.5, 1)]
    first: Any = program.client.get(f"/feedback?completion_id={answer.id}&limit=2&order=asc", cast_to=object)
    rest: Any = program.client.get(f"/feedback?limit=2&order=asc&after={first['last_id']}", cast_to=object)
    assert [one["id"] for one in first["data"]] == said[:2]
    assert first["has_more"]
    assert rest["data"][0]["id"] == said[2]
    with pytest.raises(openai.BadRequestError):
        program.client.get("/feedback?limit=0", cast_to=object)


def test_metrics_count_what_is_kept(server: ChatServer, program: Program) -> None:
    program.give(completion_id=program.ask().id, score=1)
    text = httpx2.get(f"{server.url}/metrics").text
    [kept] = re.findall(r'^fettle_traffic_total\{outcome="kept"\} (\S+)$', text, re.MULTILINE)
    assert float(kept) >= 1
    assert 'fettle_traffic_total{outcome="dropped"} 0.0' in text
