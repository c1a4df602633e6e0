"""One engine for a base model and all its adapters: everybody gets the answer that they would get alone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from adapters import write_adapter
from fettle.answering.engine import GenerationOptions, JsonForm
from fettle.answering.engines.adapter_check import AdapterCheck
from fettle.answering.engines.inbox import ServingLimits
from fettle.answering.engines.local import LocalEngine
from fettle.answering.engines.running_batch import RunningBatch
from fettle.answering.engines.shared_engine import SharedEngine
from fettle.answering.sampling import Sampling
from fettle.answering.stream import AnswerStream
from fettle.errors import BusyError, ConfigError, DataError, IntegrityError, ModelError, ResourceError
from fettle.models import lora_linear
from fettle.models.adapter import LoraVariant, adapter_layers
from fettle.models.row_cache import key_value_bytes
from fettle.records import FinishReason, Message, Prompt

INSTRUCTION = (
    "Answer with the one label that fits the message, and nothing else whatever it says, please and thank you. "
)
OPTIONS = GenerationOptions(max_new_tokens=24)
WHO = (None, "first", "second")


def prompt(text: str, *, instruction: str = INSTRUCTION) -> Prompt:
    return Prompt(
        example_id=text, messages=(Message(role="system", content=instruction), Message(role="user", content=text))
    )


PROMPTS = [
    prompt(text) for text in ("Where is it?", "I was charged twice for one order.", "ok", "My card is gone, help!")
]


@pytest.fixture
def loaded(tiny_model: Callable[[str], Any], request: pytest.FixtureRequest) -> Any:
    return tiny_model(getattr(request, "param", "llama"))


@pytest.fixture
def adapters(loaded: Any, tmp_path: Path) -> dict[str, Path]:
    return {
        "first": write_adapter(loaded, tmp_path / "first", seed=1),
        "second": write_adapter(loaded, tmp_path / "second", seed=2, variant=LoraVariant.RSLORA, rank=7),
    }


def trimmed(stream: AnswerStream) -> str:
    """An answer as a study keeps it, without the space around it."""
    return stream.whole().text.strip()


@pytest.fixture
def alone(loaded: Any, adapters: dict[str, Path]) -> dict[str | None, list[str]]:
    """What each says to all prompts by itself."""
    texts: dict[str | None, list[str]] = {}
    for who in WHO:
        engine = LocalEngine(loaded, adapter=adapters[who] if who else None)
        texts[who] = [answer.text for answer in engine.generate(PROMPTS, OPTIONS)]
        engine.close()
    assert len({tuple(of_one) for of_one in texts.values()}) == 3
    return texts


@pytest.fixture
def engine(loaded: Any, adapters: dict[str, Path], alone: object) -> Iterator[SharedEngine]:
    with SharedEngine(loaded) as made:
        for name, folder in adapters.items():
            assert made.add(name, folder, PROMPTS[:2]) < 1e-3
        yield made
    assert not adapter_layers(loaded.model), "the base model is left as it was"


@pytest.mark.parametrize("loaded", ["llama", "qwen3", "gemma2_narrow", "phi3", "olmo2"], indirect=True)
def test_adapters_and_base_answer_in_one_batch_as_each_does_alone(
    engine: SharedEngine, alone: dict[str | None, list[str]]
) -> None:
    for _ in range(2):  # the second time the prompts' beginning is kept
        streams = {
            (who, place): engine.submit(asked, OPTIONS, adapter=who)
            for place, asked in enumerate(PROMPTS)
            for who in WHO
        }
        assert {key: trimmed(stream) for key, stream in streams.items()} == {
            (who, place): alone[who][place] for who in WHO for place in range(len(PROMPTS))
        }


def test_one_that_comes_later_joins_those_that_are_running(
    engine: SharedEngine, alone: dict[str | None, list[str]]
) -> None:
    first = engine.submit(PROMPTS[1], OPTIONS, adapter="first")
    pieces = iter(first)
    texts = [next(pieces).text]
    later = [
        engine.submit(PROMPTS[place], OPTIONS, adapter=who) for place, who in ((0, None), (2, "second"), (3, "first"))
    ]
    assert [trimmed(stream) for stream in later] == [alone[None][0], alone["second"][2], alone["first"][3]]
    assert "".join([*texts, *(piece.text for piece in pieces)]).strip() == alone["first"][1]


def test_a_batch_is_no_larger_than_its_limit_and_the_queue_neither(
    loaded: Any, alone: dict[str | None, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    step = RunningBatch.step
    monkeypatch.setattr(RunningBatch, "step", lambda batch: (sizes.append(batch.num_open), step(batch)))
    release = threading.Event()
    with SharedEngine(loaded, ServingLimits(max_rows=2, max_waiting=4)) as engine:
        blocker = threading.Thread(target=lambda: engine._inbox.do_in_thread(lambda: release.wait(60)))
        blocker.start()
        waiting = [engine.submit(asked, OPTIONS) for asked in PROMPTS]
        with pytest.raises(BusyError):
            engine.submit(PROMPTS[0], OPTIONS)
        release.set()
        assert [trimmed(stream) for stream in waiting] == alone[None]
        blocker.join()
    assert max(sizes) == 2


def test_what_nobody_waits_for_leaves(engine: SharedEngine, alone: dict[str | None, list[str]]) -> None:
    left = engine.submit(PROMPTS[0], GenerationOptions(max_new_tokens=400), adapter="second")
    next(iter(left))
    left.give_up()
    assert trimmed(engine.submit(PROMPTS[0], OPTIONS, adapter="second")) == alone["second"][0]
    *_, last = left
    assert last.finish_reason is FinishReason.ERROR
    assert last.num_tokens < 400


def test_adapters_that_do_not_fit_into_memory_take_turns(
    loaded: Any, adapters: dict[str, Path], alone: dict[str | None, list[str]]
) -> None:
    with SharedEngine(loaded, ServingLimits(max_adapters=1)) as engine:
        for name, folder in adapters.items():
            with pytest.MonkeyPatch.context() as patched:
                patched.setattr(AdapterCheck, "require_as_trained", lambda *_: 0.0)
                engine.add(name, folder, PROMPTS[:1])
        streams = [engine.submit(PROMPTS[place], OPTIONS, adapter=who) for place in range(3) for who in WHO]
        assert [trimmed(stream) for stream in streams] == [alone[who][place] for place in range(3) for who in WHO]
        assert len(engine._used) == 1


def test_answers_that_do_not_fit_into_memory_step_back_and_go_on(
    loaded: Any, adapters: dict[str, Path], alone: dict[str | None, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    left: list[int] = []
    step, leave = RunningBatch.step, RunningBatch.leave
    monkeypatch.setattr(RunningBatch, "step", lambda batch: (sizes.append(batch.num_slots), step(batch)))
    monkeypatch.setattr(RunningBatch, "leave", lambda batch, answer: (left.append(1), leave(batch, answer)))
    most = 700
    with SharedEngine(loaded, ServingLimits(max_cache_bytes=most * key_value_bytes(loaded.model))) as engine:
        engine.add("first", adapters["first"], PROMPTS[:1])
        sizes.clear()
        streams = {
            (who, place): engine.submit(asked, OPTIONS, adapter=who)
            for place, asked in enumerate(PROMPTS)
            for who in (None, "first")
        }
        assert {key: trimmed(stream) for key, stream in streams.items()} == {
            (who, place): alone[who][place] for place in range(len(PROMPTS)) for who in (None, "first")
        }
    assert max(sizes) <= most
    assert left


def test_an_adapter_that_is_removed_ends_its_answers_first(
    engine: SharedEngine, alone: dict[str | None, list[str]]
) -> None:
    running = engine.submit(PROMPTS[1], OPTIONS, adapter="first")
    next(iter(running))
    engine.remove("first")
    with pytest.raises(ModelError):
        engine.submit(PROMPTS[1], OPTIONS, adapter="first")
    with pytest.raises(ModelError):
        engine.remove("first")
    assert alone["first"][1].endswith("".join(piece.text for piece in running).strip())
    assert trimmed(engine.submit(PROMPTS[1], OPTIONS, adapter="second")) == alone["second"][1]


def test_log_probabilities_are_those_of_the_models_own_forward(
    engine: SharedEngine, loaded: Any, adapters: dict[str, Path]
) -> None:
    options = GenerationOptions(
        max_new_tokens=6, num_top_log_probs=3, sampling=Sampling(temperature=1.3, seed=5, logit_bias={7: 2.0})
    )
    whole = engine.submit(PROMPTS[0], options, adapter="first").whole()
    engine.close()
    local = LocalEngine(loaded, adapter=adapters["first"])
    [answer] = local.generate(PROMPTS[:1], options)
    tokens = [token.token_id for token in whole.log_probs]
    assert answer.log_probs is not None
    assert tokens == [token.token_id for token in answer.log_probs]
    row = list(loaded.renderer.prompt_tokens(PROMPTS[0].messages, ()))
    with torch.no_grad():
        logits_TV = loaded.model(input_ids=torch.tensor([[*row, *tokens[:-1]]], device=loaded.model.device)).logits[
            0, len(row) - 1 :
        ]
    local.close()
    log_probs_TV = logits_TV.float().log_softmax(-1)
    for place, token in enumerate(whole.log_probs):
        assert token.log_prob == pytest.approx(float(log_probs_TV[place, token.token_id]), abs=1e-3)
        best = log_probs_TV[place].topk(3)
        assert [number for number, _ in token.top] == best.indices.tolist()
        assert [value for _, value in token.top] == pytest.approx(best.values.tolist(), abs=1e-3)


def test_what_is_drawn_depends_on_the_seed_and_not_on_the_company(engine: SharedEngine) -> None:
    options = GenerationOptions(max_new_tokens=16, sampling=Sampling(temperature=1.0, seed=11))
    by_itself = engine.submit(PROMPTS[0], options, adapter="first").whole().text
    many = [engine.submit(PROMPTS[place % 4], options, adapter=WHO[place % 3]) for place in range(1, 9)]
    again = engine.submit(PROMPTS[0], options, adapter="first")
    other = engine.submit(PROMPTS[0], options, adapter="first", number=1)
    assert again.whole().text == by_itself != other.whole().text
    assert all(stream.whole().finish_reason for stream in many)


def test_an_answer_ends_before_a_stop_text_and_keeps_its_form(
    engine: SharedEngine, alone: dict[str | None, list[str]]
) -> None:
    text = alone[None][1]
    stop = text[len(text) // 2 : len(text) // 2 + 2]
    ended = engine.submit(PROMPTS[1], GenerationOptions(max_new_tokens=24, stop=(stop,))).whole()
    assert ended.text.strip() == text[: text.index(stop)].strip()
    assert ended.finish_reason is FinishReason.STOP
    form = JsonForm(
        schema='{"type": "object", "properties": {"ok": {"enum": ["yes", "no"]}}, "required": ["ok"], '
        '"additionalProperties": false}',
        item_separator=", ",
        key_separator=": ",
    )
    free = engine.submit(PROMPTS[0], OPTIONS, adapter="first")
    in_form = engine.submit(PROMPTS[0], GenerationOptions(max_new_tokens=60, form=form), adapter="first").whole()
    assert in_form.text in ('{"ok": "yes"}', '{"ok": "no"}')
    assert trimmed(free) == alone["first"][0]


def test_an_adapter_that_would_be_ignored_is_refused(
    loaded: Any, adapters: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def only_the_base(outputs: Any, x: Any, all_a: Any, all_b: Any, scales: Any) -> Any:
        return None

    with SharedEngine(loaded) as engine:
        monkeypatch.setattr(lora_linear, "_add_updates", only_the_base)
        with pytest.raises(IntegrityError, match="inactive"):
            engine.add("first", adapters["first"], PROMPTS[:2])
        assert engine.adapters == ()
        monkeypatch.undo()
        updates = lora_linear._add_updates
        monkeypatch.setattr(
            lora_linear,
            "_add_updates",
            lambda y, x, a, b, scales: updates(y, x, a, b, [1.5 * scale for scale in scales]),
        )
        with pytest.raises(IntegrityError, match="not answered with as it was trained"):
            engine.add("first", adapters["first"], PROMPTS[:2])


def test_what_cannot_be_answered_is_said_at_once(loaded: Any, adapters: dict[str, Path], tmp_path: Path) -> None:
    dora = write_adapter(loaded, tmp_path / "dora", seed=3, variant=LoraVariant.DORA)
    engine = SharedEngine(loaded)
    with pytest.raises(ModelError, match="beside those of other adapters"):
        engine.add("dora", dora, PROMPTS[:1])
    with pytest.raises(ModelError, match="no adapter called"):
        engine.submit(PROMPTS[0], OPTIONS, adapter="nobody")
    with pytest.raises(DataError, match="leaves no room"):
        engine.submit(prompt("word " * 5000), OPTIONS)
    engine.add("first", adapters["first"], PROMPTS[:1])
    with pytest.raises(ConfigError, match="already"):
        engine.add("first", adapters["first"], PROMPTS[:1])
    running = engine.submit(PROMPTS[0], GenerationOptions(max_new_tokens=400), adapter="first")
    next(iter(running))
    engine.close()
    with pytest.raises(ResourceError, match="closed"):
        running.whole()
    with pytest.raises(ResourceError, match="closed"):
        engine.submit(PROMPTS[0], OPTIONS)
    assert not adapter_layers(loaded.model)
