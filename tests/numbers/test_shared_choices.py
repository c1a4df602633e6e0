"""One of some texts, by the likelihood of each, from the engine that serves: what the reference says, whoever asks beside."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from adapters import write_adapter
from fettle.answering.chat import AmongTexts, ChatRequest, ChoiceDelta, begin_chat, begin_streams
from fettle.answering.engine import GenerationOptions
from fettle.answering.engines.adapter_check import AdapterCheck
from fettle.answering.engines.inbox import ServingLimits
from fettle.answering.engines.local import LocalEngine
from fettle.answering.engines.running_batch import SharedPrefix
from fettle.answering.engines.shared_engine import SharedEngine
from fettle.answering.engines.tree_edges import edges_after
from fettle.answering.sampling import Sampling
from fettle.chat.call_reader import TextPiece
from fettle.contenders.readings import LabelReading, Reading
from fettle.errors import BusyError, ConfigError, ContextLengthError, EngineError, ModelError, ResourceError
from fettle.models.row_cache import key_value_bytes
from fettle.records import Answer, Message, Prompt

TEXTS = ("refund", "refund of a card", "card lost", "other", "delivery")
WHO = (None, "first", "second")
INSTRUCTION = "Answer with the one label that fits the message, and nothing else whatever it says. "


def prompt(text: str) -> Prompt:
    said = (Message(role="system", content=INSTRUCTION), Message(role="user", content=text))
    return Prompt(example_id=text, messages=said)


PROMPTS = [prompt(text) for text in ("Where is it?", "I was charged twice.", "ok", "My card is gone, help!")]


@pytest.fixture
def adapters(tiny_model: Callable[[str], Any], tmp_path: Path) -> dict[str, Path]:
    return {
        name: write_adapter(tiny_model("llama"), tmp_path / name, seed=seed)
        for seed, name in enumerate(("first", "second"))
    }


@pytest.fixture
def alone(tiny_model: Callable[[str], Any], adapters: dict[str, Path]) -> dict[str | None, tuple[Answer, ...]]:
    found: dict[str | None, tuple[Answer, ...]] = {}
    for who in WHO:
        engine = LocalEngine(tiny_model("llama"), adapter=adapters[who] if who else None)
        found[who] = engine.choose(PROMPTS, TEXTS)
        engine.close()
    return found


@pytest.fixture
def engine(
    tiny_model: Callable[[str], Any], adapters: dict[str, Path], alone: object, monkeypatch: pytest.MonkeyPatch
) -> Iterator[SharedEngine]:
    monkeypatch.setattr(AdapterCheck, "require_as_trained", lambda *_: 0.0)
    with SharedEngine(tiny_model("llama"), ServingLimits(max_adapters=1, max_waiting=40)) as made:
        for name, folder in adapters.items():
            made.add(name, folder, PROMPTS[:1])
        yield made


def require_same(ours: Answer, reference: Answer) -> None:
    assert (ours.text, ours.example_id, ours.finish_reason) == (
        reference.text,
        reference.example_id,
        reference.finish_reason,
    )
    assert ours.choice_log_likelihoods == pytest.approx(reference.choice_log_likelihoods, abs=1e-4)
    assert ours.usage.prompt_tokens == reference.usage.prompt_tokens


def test_all_who_ask_at_once_get_what_they_would_get_alone(
    engine: SharedEngine, alone: Mapping[str | None, tuple[Answer, ...]]
) -> None:
    written = [engine.submit(PROMPTS[0], GenerationOptions(max_new_tokens=60), adapter=who) for who in WHO]
    asked = [
        (who, place, engine.choosing(PROMPTS[place], TEXTS, adapter=who))
        for _ in range(2)
        for place in range(len(PROMPTS))
        for who in WHO
    ]
    for who, place, answer in asked:
        require_same(answer.result(timeout=60), alone[who][place])
    for stream in written:
        assert stream.whole().num_tokens > 0
    assert engine.is_idle
    likelihoods = [tuple((answers[0].choice_log_likelihoods or {}).values()) for answers in alone.values()]
    assert len(set(likelihoods)) == len(WHO)  # the adapters are told apart


def test_what_cannot_be_chosen_is_said_at_once(engine: SharedEngine) -> None:
    with pytest.raises(ModelError):
        engine.choosing(PROMPTS[0], TEXTS, adapter="none")
    with pytest.raises(ConfigError):
        engine.choosing(PROMPTS[0], ("same", "same"))
    with pytest.raises(ContextLengthError):
        engine.choosing(prompt("long " * engine.max_tokens), TEXTS)


def test_waiting_ends_when_it_is_given_up_when_there_is_no_room_and_when_the_engine_closes(
    tiny_model: Callable[[str], Any],
) -> None:
    engine = SharedEngine(tiny_model("llama"), ServingLimits(max_waiting=2))
    with engine._inbox.changed:  # the model's thread cannot begin meanwhile
        given_up, closed = (engine._choosing(PROMPTS[0], (1, 2), TEXTS, None) for _ in range(2))
        with pytest.raises(BusyError):
            engine._choosing(PROMPTS[0], (1, 2), TEXTS, None)
        assert given_up.cancel()
        engine._inbox.is_closed = True
    engine.close()
    with pytest.raises(ResourceError):
        closed.result(timeout=10)
    with pytest.raises(ResourceError):
        engine.choosing(PROMPTS[0], TEXTS)


def test_an_error_of_the_model_reaches_all_who_wait_and_the_next_is_answered(
    engine: SharedEngine, alone: Mapping[str | None, tuple[Answer, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("no memory")

    with monkeypatch.context() as patched:
        patched.setattr("fettle.answering.engines.shared_engine.edges_after", broken)
        with pytest.raises(EngineError, match="no memory"):
            engine.choose(PROMPTS[0], TEXTS)
    require_same(engine.choose(PROMPTS[0], TEXTS), alone[None][0])


def asked(**changes: Any) -> ChatRequest:
    reading = LabelReading(kind=Reading.CALIBRATED, mean_log_likelihoods={TEXTS[0]: -1e3})
    among = AmongTexts(texts=TEXTS, taken=lambda answer: reading.read([answer])[0])
    return replace(ChatRequest(messages=PROMPTS[0].messages, among=among, sampling=Sampling()), **changes)


def told(engine: SharedEngine, request: ChatRequest) -> list[list[ChoiceDelta]]:
    async def read() -> list[list[ChoiceDelta]]:
        return [[delta async for delta in choice] for choice in begin_chat(engine, request, adapter=None)]

    return asyncio.run(read())


def test_a_chat_is_answered_with_the_text_that_is_taken_however_it_is_asked(
    engine: SharedEngine, alone: Mapping[str | None, tuple[Answer, ...]]
) -> None:
    assert alone[None][0].text != TEXTS[0]  # what is taken is not what greedy decoding says
    [[whole]] = told(engine, asked())
    assert whole.events == (TextPiece(TEXTS[0]),)
    for request in (asked(num_choices=2), asked(num_top_log_probs=1), asked(max_new_tokens=60, stop=("#",))):
        for deltas in told(engine, request):
            assert (
                "".join(event.text for delta in deltas for event in delta.events if isinstance(event, TextPiece))
                == (TEXTS[0])
            )
            assert all(delta.log_probs for delta in deltas[:-1]) or request.num_top_log_probs is None
    [cut] = begin_streams(engine, asked(max_new_tokens=1), adapter=None)
    assert TEXTS[0].startswith(cut.whole().text)
    [drawn] = begin_streams(engine, asked(sampling=Sampling(temperature=1.0, seed=3), max_new_tokens=9), adapter=None)
    assert drawn.whole().num_tokens == 9  # nothing but `text_form` keeps it, and there is none


def test_a_choice_by_an_adapter_that_is_not_in_memory_does_not_wait_for_ever(engine: SharedEngine) -> None:
    options, written = GenerationOptions(max_new_tokens=40), []
    with engine._inbox.changed:  # the model's thread cannot begin meanwhile
        written.append(engine.submit(PROMPTS[0], options, adapter="first"))
    while not engine.num_running:
        time.sleep(0.001)
    there = engine.choosing(PROMPTS[1], TEXTS, adapter="first")
    other = engine.choosing(PROMPTS[1], TEXTS, adapter="second")
    there_too = engine.choosing(PROMPTS[2], TEXTS, adapter="first")
    while not other.done() and len(written) < 400:  # there is always another answer to be written by the first one
        if engine.num_waiting < 4:
            written.append(engine.submit(PROMPTS[0], options, adapter="first"))
        time.sleep(0.001)
    assert len(written) < 400
    for chosen in (there, other, there_too):
        assert chosen.result(timeout=60).text in TEXTS
    assert all(stream.whole().num_tokens for stream in written)


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Rows, and tokens of their common beginning, of every pass for choices."""
    made: list[tuple[int, int]] = []

    def noted(model: Any, rows: Any, prefix: SharedPrefix, tree: Any) -> Any:
        made.append((len(rows), len(prefix.token_ids)))
        return edges_after(model, rows, prefix, tree)

    monkeypatch.setattr("fettle.answering.engines.shared_engine.edges_after", noted)
    return made


def choose_at_once(engine: SharedEngine, prompts: Sequence[Prompt]) -> None:
    with engine._inbox.changed:
        asked = [engine.choosing(one, TEXTS) for one in prompts]
    for chosen in asked:
        assert chosen.result(timeout=60).text in TEXTS


def test_long_messages_behind_one_instruction_are_run_together(
    tiny_model: Callable[[str], Any], passes: list[tuple[int, int]]
) -> None:
    told = Message(role="system", content=INSTRUCTION * 4)
    messages = [Message(role="user", content=f"{number} " * 150) for number in range(8)]
    prompts = [Prompt(example_id=one.content, messages=(told, one)) for one in messages]
    with SharedEngine(tiny_model("llama")) as engine:
        choose_at_once(engine, prompts[:2])
        passes.clear()
        choose_at_once(engine, prompts[2:])
    [(num_rows, num_shared)] = passes
    assert num_rows == 6
    assert num_shared > 0


def test_choices_take_no_more_memory_than_they_may(
    tiny_model: Callable[[str], Any], passes: list[tuple[int, int]]
) -> None:
    model, prompts = tiny_model("llama"), [prompt(f"{number} " * 150) for number in range(6)]
    length = max(len(model.renderer.prompt_tokens(one.messages, ())) for one in prompts)
    room = int(2.5 * (length + 8)) * key_value_bytes(model.model)
    with SharedEngine(model, ServingLimits(max_cache_bytes=room)) as engine:
        choose_at_once(engine, prompts)
    assert sum(num_rows for num_rows, _ in passes) == 6
    assert max(num_rows for num_rows, _ in passes) == 2
