"""Canaries and shadows by the official SDK over real HTTP: who answers whom, and what feedback makes of it."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx2
import pytest
from chat_server import BASE, ChatServer, serving_chat
from openai import BadRequestError, OpenAI

from fettle.releases.challenge import Challenge, ChallengeKind
from fettle.releases.challenging import begin_challenge, challenge_states, end_challenge
from fettle.releases.changing import promote
from fettle.releases.records import AnswerForm, ContenderKind, ReleasedContender
from fettle.store.challenges import shadow_answer_of
from fettle.store.database import Store
from fettle.store.keys import create_key, list_keys
from fettle.store.models import put_base_model
from fettle.store.releases import number_in_force
from fettle.store.traffic import KeptRequest, TrafficRule, read_kept, set_rule
from kept_releases import keep_release
from tiny_models import save_unknown_model

pytestmark = pytest.mark.any_database

WRONG, RIGHT = "other", "billing"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ChatServer, Store]]:
    folder = tmp_path_factory.mktemp("canary")
    with serving_chat(folder) as server:
        store = Store(folder / "home")  # as another process of the same machine has it
        [key] = list_keys(store)
        set_rule(store, TrafficRule(key_id=key.id, num_days=1))
        try:
            yield server, store
        finally:
            store.close()


class Named:
    """Releases of a name: the first one always answers wrongly and is in force, the second one rightly, or the other way round."""

    def __init__(self, server: ChatServer, store: Store, name: str, labels: tuple[str, str] = (WRONG, RIGHT)) -> None:
        self.server, self.store, self.name = server, store, name
        self.client = server.client()
        self.project_id = list_keys(store)[0].project_id
        for label in labels:
            form = AnswerForm(labels=(label,))
            keep_release(store, name, ReleasedContender(kind=ContenderKind.PROMPT, model=BASE, form=form))
        promote(store, self.project_id, name, 1, who="tester")

    def begin(self, kind: ChallengeKind, *, share: float = 0.5, challenger: int = 2, **more: Any) -> str:
        agreed = Challenge(name=self.name, challenger=challenger, kind=kind, share=share)
        return begin_challenge(self.store, self.project_id, agreed, who="tester", **more).challenge.id

    def ask(self, *turns: str, name: str | None = None, **more: Any) -> Any:
        roles = itertools.cycle(("user", "assistant"))
        messages: Any = [{"role": role, "content": turn} for role, turn in zip(roles, turns, strict=False)]
        return self.client.chat.completions.create(model=name or self.name, messages=messages, max_tokens=8, **more)

    def correct(self, answer: Any) -> None:
        body = {"completion_id": answer.id, "corrected_answer": RIGHT}
        self.client.post("/feedback", cast_to=object, body=body)

    @property
    def in_force(self) -> int | None:
        with self.store.reading() as connection:
            return number_in_force(connection, self.project_id, self.name)

    @property
    def decision(self) -> str | None:
        return challenge_states(self.store, self.project_id, self.name)[-1].challenge.decision


def shadowed(server: ChatServer) -> dict[str, float]:
    """What became of requests that a challenger was to answer too."""
    text = httpx2.get(f"{server.url}/metrics").text
    return {
        one: float(value) for one, value in re.findall(r'^fettle_shadow_total\{outcome="(\w+)"\} (\S+)$', text, re.M)
    }


def test_a_canary_that_is_right_where_the_incumbent_is_wrong_comes_into_force(served: tuple[ChatServer, Store]) -> None:
    named = Named(*served, "right")
    named.begin(ChallengeKind.CANARY, acts=True)
    for number in range(200):
        answer = named.ask(f"Question {number}")
        assert answer.choices[0].message.content == (RIGHT if answer.release["number"] == 2 else WRONG)
        named.correct(answer)
        if named.decision is not None:
            break
    assert (named.decision, named.in_force) == ("promote", 2)
    assert named.ask("Question 0").release["number"] == 2


def test_a_losing_canary_is_stopped(served: tuple[ChatServer, Store]) -> None:
    named = Named(*served, "losing", (RIGHT, WRONG))
    named.begin(ChallengeKind.CANARY)
    for number in range(200):
        named.correct(named.ask(f"Question {number}"))
        if named.decision is not None:
            break
    assert (named.decision, named.in_force) == ("stop", 1)
    assert {named.ask(f"Question {number}").release["number"] for number in range(10)} == {1}


def test_a_canary_whose_model_does_not_load_leaves_its_users_to_the_release_in_force(
    served: tuple[ChatServer, Store], tmp_path: Path
) -> None:
    server, store = served
    named = Named(server, store, "unloadable")
    with store.writing() as connection:
        put_base_model(connection, "odd-model", str(save_unknown_model(tmp_path / "odd", "mamba")))
    keep_release(store, "unloadable", ReleasedContender(kind=ContenderKind.PROMPT, model="odd-model"))
    named.begin(ChallengeKind.CANARY, share=0.99, challenger=3)
    answers = [named.ask(f"Question {number}") for number in range(6)]
    assert {answer.choices[0].message.content for answer in answers} == {WRONG}
    assert {answer.release["number"] for answer in answers} == {1}
    kept: Sequence[KeptRequest] = ()
    for _ in range(1000):  # they are kept a moment after they were answered
        with store.reading() as connection:
            kept = read_kept(connection, named.project_id, model=named.name)
        if len(kept) == len(answers):
            break
    assert sum("challenge" not in (one.release or {}) for one in kept) >= 4, "they are on no side of the challenge"
    with pytest.raises(BadRequestError, match="cannot be served here"):
        named.ask("Question", name="unloadable@3")


def test_a_conversation_and_a_user_stay_on_their_side(served: tuple[ChatServer, Store]) -> None:
    named = Named(*served, "staying")
    named.begin(ChallengeKind.CANARY)
    sides = []
    for number in range(16):
        first = f"Conversation {number}"
        answer = named.ask(first)
        later = named.ask(first, answer.choices[0].message.content, "And now?")
        streamed = next(iter(named.ask(first, stream=True)))
        response = named.client.responses.with_raw_response.create(model=named.name, input=first, max_output_tokens=16)
        sides.append(answer.release["number"])
        assert later.release["number"] == streamed.release["number"] == sides[-1]
        assert response.headers["x-fettle-release"] == f"{named.name}@{sides[-1]}"
    assert set(sides) == {1, 2}
    for user in ("ada", "grace"):
        asked = {named.ask(f"{user} {number}", safety_identifier=user).release["number"] for number in range(6)}
        by_response = named.client.responses.with_raw_response.create(
            model=named.name, input="Hello", user=user, max_output_tokens=16
        )
        assert asked == {int(by_response.headers["x-fettle-release"][-1])}
    assert {named.ask(f"Conversation {number}", name=f"{named.name}@1").release["number"] for number in range(8)} == {1}
    end_challenge(named.store, named.project_id, named.name, who="tester")
    assert {named.ask(f"Conversation {number}").release["number"] for number in range(12)} == {1}


def test_a_shadow_answers_beside_and_is_compared_by_what_was_corrected(served: tuple[ChatServer, Store]) -> None:
    server, store = served
    named = Named(server, store, "shadowed")
    challenge_id = named.begin(ChallengeKind.SHADOW, share=0.99)
    answers = [named.ask(f"Question {number}", stream=False) for number in range(12)]
    assert {answer.choices[0].message.content for answer in answers} == {WRONG}
    with store.reading() as connection:
        kept = {one.id: one for one in read_kept(connection, named.project_id, model=named.name)}
    drawn = [one.id for one in kept.values() if one.release is not None and "challenge" in one.release]
    for _ in range(1000):
        if sum(shadowed(server).values()) >= len(drawn):
            break
    with store.reading() as connection:
        beside = [shadow_answer_of(connection, one) for one in drawn]
    assert len(beside) >= 8
    assert all(one is not None and one.answer == {"role": "assistant", "content": RIGHT} for one in beside)
    assert all(one is not None and one.challenge_id == challenge_id for one in beside)
    for answer in answers:
        named.correct(answer)
        if named.decision is not None:
            break
    [state] = challenge_states(store, named.project_id, named.name)
    assert state.look is not None
    assert state.look.num_challenger >= 5
    assert state.look.difference.estimate == 1.0
    assert (named.decision, named.in_force) == ("promote", 1), "it is proposed, and nobody said that it may act"


def test_nothing_is_asked_twice_for_keys_that_keep_nothing(served: tuple[ChatServer, Store]) -> None:
    server, store = served
    named = Named(server, store, "unkept")
    named.begin(ChallengeKind.SHADOW, share=0.99)
    secret, _ = create_key(store, "keeps nothing")
    named.client = OpenAI(base_url=f"{server.url}/v1", api_key=secret, max_retries=0, timeout=120)
    before = shadowed(server)["answered"]
    for number in range(5):
        named.ask(f"Question {number}")
    with store.reading() as connection:
        assert read_kept(connection, named.project_id, model=named.name) == ()
    for _ in range(20):
        assert shadowed(server)["answered"] == before
