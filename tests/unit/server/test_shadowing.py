"""Challengers that answer unseen: only when nobody waits, only what is kept, and never in the way."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from challenged import BASE, Challenged, challenged, shadow
from fettle.answering.engine import Engine
from fettle.answering.engine_pool import PoolLoad
from fettle.answering.engines.openai_http import OpenAIEngine
from fettle.errors import EngineError
from fettle.judging.records import Order
from fettle.records import Answer, FinishReason, Prompt, Usage
from fettle.releases.challenging import begin_challenge, challenge_states, end_challenge
from fettle.releases.pair_judge import PairJudge
from fettle.releases.terms import JudgeEndpoint
from fettle.server.shadowing import Beside, Shadower, ShadowOutcome, WrittenAnswer
from fettle.store.challenges import shadow_answer_of
from fettle.store.database import Store
from fettle.store.traffic import KeptRequest, forget
from fettle.traffic.keeper import Keeper
from local_endpoint import Reply, completion, endpoint, failure
from tiny_models import save_tiny_model

ANSWER = WrittenAnswer(message={"role": "assistant", "content": "billing"}, finish_reason="stop")


def load(num_waiting: int = 0, num_running: int = 0) -> PoolLoad:
    return PoolLoad(num_waiting=num_waiting, num_running=num_running, num_adapters=0, num_bases=1)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("models") / BASE, "llama")


@pytest.fixture
def place(store: Store, base: Path) -> Challenged:
    return challenged(store, base)


@pytest.fixture
def keeper(store: Store) -> Iterator[Keeper]:
    opened = Keeper(store)
    yield opened
    opened.close()


class Shadowed:
    """A request that the challenger is to answer too."""

    def __init__(self, place: Challenged, **more: Any) -> None:
        self.place = place
        self.id = begin_challenge(place.store, place.project_id, shadow(0.99), who="ann", **more).challenge.id

    def request(self, text: str = "question") -> KeptRequest:
        for number in range(100):
            side = self.place.ask(f"{text} {number}").assigned
            if side is not None and side.beside:
                return self.place.answered(f"{text} {number}", {1: "other"})
        raise AssertionError("of 100 conversations 99 are drawn")

    def beside(self, kept: KeptRequest, ask: Callable[[Callable[[], bool]], WrittenAnswer | None]) -> Beside:
        return Beside(completion_id=kept.id, project_id=self.place.project_id, challenge_id=self.id, ask=ask)


def test_an_answer_is_kept_beside_the_users(place: Challenged, keeper: Keeper) -> None:
    shadowed = Shadowed(place)
    shadower = Shadower(place.store, keeper, load)
    kept = shadowed.request()
    shadower.take(shadowed.beside(kept, lambda _wanted: ANSWER))
    assert shadower.wait_until_idle(60)
    shadower.close()
    assert shadower.counts[ShadowOutcome.ANSWERED] == 1
    with place.store.reading() as connection:
        found = shadow_answer_of(connection, kept.id)
    assert found is not None
    assert (found.answer, found.finish_reason, found.challenge_id) == (ANSWER.message, "stop", shadowed.id)


def test_the_queue_is_bounded_and_closing_drops_what_waits(place: Challenged, keeper: Keeper) -> None:
    shadowed = Shadowed(place)
    is_asked, may_end = threading.Event(), threading.Event()

    def slow(is_wanted: Callable[[], bool]) -> WrittenAnswer | None:
        is_asked.set()
        assert may_end.wait(60)
        return ANSWER if is_wanted() else None

    shadower = Shadower(place.store, keeper, load, most_waiting=2)
    one = shadowed.beside(shadowed.request(), slow)
    shadower.take(one)
    assert is_asked.wait(60)
    for _ in range(5):
        shadower.take(one)
    assert shadower.counts[ShadowOutcome.DROPPED] == 3
    closing = threading.Thread(target=shadower.close)
    closing.start()
    while shadower.counts[ShadowOutcome.DROPPED] < 5:
        closing.join(0.01)
    may_end.set()
    closing.join()
    shadower.take(one)
    assert shadower.counts[ShadowOutcome.DROPPED] == 7  # what was asked was given up, and nothing more is taken
    assert shadower.counts[ShadowOutcome.ANSWERED] == 0


def test_it_waits_until_the_engines_are_idle(place: Challenged, keeper: Keeper) -> None:
    shadowed = Shadowed(place)
    loads = iter([load(0, 3), load(2, 3), load(0, 1)])
    asked_after: list[int] = []
    looks = 0

    def watched() -> PoolLoad:
        nonlocal looks
        looks += 1
        return next(loads, load())

    def ask(_is_wanted: Callable[[], bool]) -> WrittenAnswer:
        asked_after.append(looks)
        return ANSWER

    shadower = Shadower(place.store, keeper, watched)
    shadower.take(shadowed.beside(shadowed.request(), ask))
    assert shadower.wait_until_idle(60)
    assert asked_after == [4]
    shadower.close()


def test_only_what_is_kept_is_asked_and_only_while_the_challenge_runs(place: Challenged, keeper: Keeper) -> None:
    shadowed = Shadowed(place)
    shadower = Shadower(place.store, keeper, load)
    asked: list[str] = []

    def ask(_is_wanted: Callable[[], bool]) -> WrittenAnswer:
        asked.append("asked")
        return ANSWER

    gone = shadowed.request()
    forget(place.store, place.project_id)
    shadower.take(shadowed.beside(gone, ask))
    late = shadowed.request("late")
    assert shadower.wait_until_idle(60)
    end_challenge(place.store, place.project_id, "triage", who="ann")
    shadower.take(shadowed.beside(late, ask))
    assert shadower.wait_until_idle(60)
    assert (asked, shadower.counts[ShadowOutcome.NOT_KEPT]) == ([], 2)
    shadower.close()


def test_a_request_that_is_deleted_meanwhile_leaves_nothing(place: Challenged, keeper: Keeper) -> None:
    shadowed = Shadowed(place)
    shadower = Shadower(place.store, keeper, load)
    kept = shadowed.request()

    def ask(_is_wanted: Callable[[], bool]) -> WrittenAnswer:
        forget(place.store, place.project_id)
        return ANSWER

    shadower.take(shadowed.beside(kept, ask))
    assert shadower.wait_until_idle(60)
    assert shadower.counts[ShadowOutcome.NOT_KEPT] == 1
    shadower.close()


def test_a_challenger_that_fails_is_counted_and_the_next_one_is_asked(
    place: Challenged, keeper: Keeper, caplog: pytest.LogCaptureFixture
) -> None:
    shadowed = Shadowed(place)
    shadower = Shadower(place.store, keeper, load)

    def known(_is_wanted: Callable[[], bool]) -> WrittenAnswer:
        raise EngineError("it is broken")

    def unknown(_is_wanted: Callable[[], bool]) -> WrittenAnswer:
        raise RuntimeError("grace@example.com")

    for ask in (known, unknown, lambda _wanted: ANSWER):
        shadower.take(shadowed.beside(shadowed.request(str(id(ask))), ask))
    assert shadower.wait_until_idle(60)
    assert (shadower.counts[ShadowOutcome.FAILED], shadower.counts[ShadowOutcome.ANSWERED]) == (2, 1)
    assert "it is broken" in caplog.text
    assert "grace" not in caplog.text
    shadower.close()


class PlantedJudge:
    """Prefers answers that say "billing"; unreadable on demand."""

    name = "planted"

    def __init__(self) -> None:
        self.num_asked, self.is_readable, self.is_closed = 0, True, False

    def close(self) -> None:
        self.is_closed = True

    def generate(self, prompts: list[Prompt], _options: object) -> tuple[Answer, ...]:
        self.num_asked += len(prompts)
        return tuple(self._answer(prompt) for prompt in prompts)

    def _answer(self, prompt: Prompt) -> Answer:
        first, second = prompt.messages[-1].content.split("=== SECOND ANSWER")
        verdict = "first" if "billing" in first.split("=== FIRST ANSWER")[1] else "second"
        text = f'{{"verdict": "{verdict}", "reason": ""}}' if self.is_readable else "I cannot say."
        assert ("billing" in second) == (verdict == "second")
        usage = Usage(prompt_tokens=1, completion_tokens=1, seconds=0.0)
        return Answer(example_id=prompt.example_id, text=text, finish_reason=FinishReason.STOP, usage=usage)


def test_a_judge_that_is_named_compares_both_answers_in_both_orders(place: Challenged, keeper: Keeper) -> None:
    judge, planted = JudgeEndpoint(url="http://judge.example/v1", model="j", rubric="Right ones."), PlantedJudge()
    shadowed = Shadowed(place, judge=judge)

    def engine_of(_endpoint: JudgeEndpoint) -> Engine:
        return planted  # type: ignore[return-value]  # what a judge needs of one

    shadower = Shadower(place.store, keeper, load, judge=PairJudge(engine_of))
    shadower.take(shadowed.beside(shadowed.request(), lambda _wanted: ANSWER))
    assert shadower.wait_until_idle(60)
    assert planted.num_asked == len(Order)
    [state] = challenge_states(place.store, place.project_id, "triage")
    assert state.look is not None
    assert (state.look.num_challenger, state.look.difference.estimate) == (1, 1.0)
    planted.is_readable = False
    shadower.take(shadowed.beside(shadowed.request("other"), lambda _wanted: ANSWER))
    assert shadower.wait_until_idle(60)
    assert shadower.counts[ShadowOutcome.FAILED] == 1
    assert challenge_states(place.store, place.project_id, "triage")[0].num_outcomes == 1
    shadower.close()
    assert planted.is_closed


def test_a_judge_over_http_is_asked_in_both_orders_by_one_client_and_again_once_it_is_back() -> None:
    is_mended = threading.Event()
    is_mended.set()

    def verdict(body: dict[str, Any], _number: int) -> Reply:
        said = body["messages"][-1]["content"]
        if "=== SECOND ANSWER" not in said:
            return completion("Hello")  # each client greets an endpoint first
        if not is_mended.is_set():
            return failure(400, "I am being mended")
        first, _ = said.split("=== SECOND ANSWER")
        verdict = "first" if "billing" in first.split("=== FIRST ANSWER")[1] else "second"
        return completion(json.dumps({"verdict": verdict, "reason": "It names the queue."}))

    with endpoint(verdict) as served:
        judge, opened = JudgeEndpoint(url=served.url, model="j", rubric="Right ones."), []

        def engine_of(one: JudgeEndpoint) -> Engine:
            opened.append(OpenAIEngine(one.url, one.model))
            return opened[-1]

        judges = PairJudge(engine_of)
        asked = [{"role": "user", "content": "Which queue?"}]
        assert judges.preference(judge, asked, "billing", "other") == 1.0
        assert judges.preference(judge, asked, "other", "billing") == 0.0
        assert len(opened) == 1
        is_mended.clear()
        assert judges.preference(judge, asked, "billing", "other") is None
        is_mended.set()
        assert judges.preference(judge, asked, "billing", "other") == 1.0
        num_asked = len(served.requests)
        assert judges.preference(judge, asked, "billing", " billing") == 0.5
        assert (len(opened), len(served.requests)) == (2, num_asked), "nobody is asked of equal answers"
        judges.close()
