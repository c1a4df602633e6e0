"""A vLLM server behind the interface of our own engine, against a stand-in: the same answers, and its faults told."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from adapters import write_adapter
from fettle.answering.check_prompts import write_check_prompts
from fettle.answering.engine import GenerationOptions, Grammar, JsonForm
from fettle.answering.engine_pool import EnginePool, ServedModel
from fettle.answering.engines.inbox import ServingLimits
from fettle.answering.engines.shared_engine import SharedEngine
from fettle.answering.engines.vllm_server import ServedBase, VllmServer
from fettle.answering.engines.vllm_serving import VllmServingEngine
from fettle.answering.sampling import Sampling
from fettle.answering.stream import Piece
from fettle.errors import BusyError, ConfigError, FettleError, IntegrityError, RemoteError, ResourceError
from fettle.models.load import load_model
from fettle.models.precision import Precision
from fettle.models.resolve import ResolvedModel, resolve_model
from fettle.records import FinishReason, Message, Prompt
from tiny_models import load_tiny_model, save_tiny_model
from vllm_server import FakeVllm, serving

BASE = "tiny-llama"
OPTIONS = GenerationOptions(max_new_tokens=12)
SCHEMA = {
    "type": "object",
    "properties": {"queue": {"enum": ["refund", "parcel"]}, "urgent": {"type": "boolean"}},
    "required": ["queue", "urgent"],
    "additionalProperties": False,
}
ADAPTERS = ("ft-first", "ft-second")
TEXTS = ("Where is it?", "I was charged twice.", "ok", "My card is gone, help!")


def prompt(text: str) -> Prompt:
    return Prompt(example_id="", messages=(Message(role="user", content=text),))


def exact(source: ResolvedModel, _precision: Precision = Precision.EXACT) -> Any:
    return load_model(source, Precision.EXACT)


class Home:
    """A base model and two adapters on a disk, and what our own engine says."""

    def __init__(self, folder: Path) -> None:
        self.base = ServedModel(name=BASE, base=resolve_model(str(save_tiny_model(folder / BASE, "llama"))))
        loaded = load_tiny_model(self.base.base.path)
        folders = [write_adapter(loaded, folder / name, seed=seed) for seed, name in enumerate(ADAPTERS, 1)]
        self.tuned = [
            replace(self.base, name=name, adapter=place) for name, place in zip(ADAPTERS, folders, strict=True)
        ]
        self.models = [self.base, *self.tuned]
        self.ours = SharedEngine(load_tiny_model(self.base.base.path))
        for model in self.tuned:
            assert model.adapter is not None
            self.ours.add(model.name, model.adapter, [prompt("Where is it?")])

    def fake(self, **faults: Any) -> FakeVllm:
        return FakeVllm(load_tiny_model(self.base.base.path), model=BASE, **faults)

    def said(self, model: ServedModel, text: str, options: GenerationOptions = OPTIONS) -> Piece:
        return self.ours.submit(prompt(text), options, adapter=_adapter(model)).whole()


def _adapter(model: ServedModel) -> str | None:
    return model.name if model.adapter else None


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    made = Home(tmp_path_factory.mktemp("home"))
    yield made
    made.ours.close()


@pytest.fixture
def server(home: Home) -> Iterator[FakeVllm]:
    with serving(home.fake()) as served:
        yield served


@pytest.fixture
def pool(server: FakeVllm) -> Iterator[EnginePool]:
    made = pool_of(server)
    yield made
    made.close()


def pool_of(server: FakeVllm, limits: ServingLimits | None = None) -> EnginePool:
    return EnginePool(servers=[VllmServer(server.url)], load=exact, load_reference=exact, limits=limits)


def ask(pool: EnginePool, model: ServedModel, text: str = "ok", options: GenerationOptions = OPTIONS) -> Piece:
    with pool.engine_of(model) as engine:
        return engine.submit(prompt(text), options, adapter=_adapter(model)).whole()


def test_sixteen_streams_at_once_are_what_our_own_engine_says(home: Home, pool: EnginePool) -> None:
    asked = [(home.models[number % 3], TEXTS[number % 4]) for number in range(16)]
    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(lambda one: ask(pool, *one), asked))
    for (model, text), answer in zip(asked, answers, strict=True):
        assert answer == home.said(model, text)
    assert len({answer.text for answer in answers}) >= 9
    with pool.engine_of(home.base) as engine:
        assert isinstance(engine, VllmServingEngine)
        assert next(engine.loaded.model.parameters()).is_meta
        assert engine.is_idle


@pytest.mark.parametrize(
    "options",
    [
        GenerationOptions(max_new_tokens=8, num_top_log_probs=3),
        GenerationOptions(max_new_tokens=8, num_top_log_probs=0),
        GenerationOptions(max_new_tokens=16, sampling=Sampling(presence_penalty=1.5, frequency_penalty=1.0)),
        GenerationOptions(max_new_tokens=8, sampling=Sampling(logit_bias={45: 30.0, 46: -50.0})),
        GenerationOptions(max_new_tokens=3),
    ],
    ids=["likely tokens", "log-probabilities alone", "penalties", "bias", "a limit"],
)
def test_what_is_asked_for_is_what_our_own_engine_gives(
    home: Home, pool: EnginePool, options: GenerationOptions
) -> None:
    theirs, ours = ask(pool, home.tuned[0], options=options), home.said(home.tuned[0], "ok", options)
    assert (theirs.text, theirs.finish_reason, theirs.num_tokens) == (ours.text, ours.finish_reason, ours.num_tokens)
    assert len(theirs.log_probs) == len(ours.log_probs)
    for one, other in zip(theirs.log_probs, ours.log_probs, strict=True):
        assert one.token_id == other.token_id
        assert one.log_prob == pytest.approx(other.log_prob, abs=1e-3)
        assert [token for token, _ in one.top] == [token for token, _ in other.top]


def test_the_likelihood_of_texts_is_what_our_own_engine_gives(home: Home, pool: EnginePool) -> None:
    texts = ("refund", "refund of a card", "card", "other")
    for model in home.models:
        with pool.engine_of(model) as engine:
            theirs = engine.choose(prompt("ok"), texts, adapter=_adapter(model))
            assert engine.is_idle
        ours = home.ours.choose(prompt("ok"), texts, adapter=_adapter(model))
        assert theirs.text == ours.text
        assert theirs.choice_log_likelihoods == pytest.approx(ours.choice_log_likelihoods, abs=1e-3)


def test_a_stop_text_ends_an_answer_here(home: Home, pool: EnginePool) -> None:
    whole = home.said(home.base, "ok", GenerationOptions(max_new_tokens=40)).text
    stop = whole[len(whole) // 2 : len(whole) // 2 + 3]
    options = GenerationOptions(max_new_tokens=40, stop=(stop,))
    answer = ask(pool, home.base, options=options)
    assert answer == home.said(home.base, "ok", options)
    assert answer.finish_reason is FinishReason.STOP
    assert stop not in answer.text


def test_answers_are_kept_in_forms(home: Home, pool: EnginePool, server: FakeVllm) -> None:
    hot = Sampling(temperature=1.5, seed=3)
    form = JsonForm(schema=json.dumps(SCHEMA))
    answer = ask(pool, home.tuned[1], options=GenerationOptions(max_new_tokens=200, form=form, sampling=hot))
    assert json.loads(answer.text).keys() == {"queue", "urgent"}
    lark = 'start: "refund" | "parcel"'
    chosen = ask(pool, home.base, options=GenerationOptions(max_new_tokens=20, form=Grammar(lark=lark), sampling=hot))
    assert chosen.text in ("refund", "parcel")
    assert server.bodies[-1]["structured_outputs"] == {"grammar": lark}
    with pytest.raises(ConfigError):
        ask(pool, home.base, options=GenerationOptions(max_new_tokens=20, form=Grammar(lark="start: nothing")))


def test_several_answers_differ_and_a_seed_gives_them_again(home: Home, pool: EnginePool) -> None:
    options = GenerationOptions(max_new_tokens=8, sampling=Sampling(temperature=1.0, seed=-5))

    def several() -> list[str]:
        with pool.engine_of(home.base) as engine:
            streams = engine.submit_several(prompt("ok"), options, numbers=range(4))
        return [stream.whole().text for stream in streams]

    assert several() == several()
    assert len(set(several())) == 4


def test_nothing_is_left_to_the_generation_settings_of_the_server(
    home: Home, pool: EnginePool, server: FakeVllm
) -> None:
    ask(pool, home.base)
    completions = [body for body in server.bodies if "prompt" in body]
    assert {body["repetition_penalty"] for body in completions} == {1.0}
    asked = completions[-1]
    assert (asked["top_k"], asked["min_p"], asked["top_p"], asked["temperature"]) == (0, 0.0, 1.0, 0.0)


@pytest.mark.parametrize(
    ("fault", "match"),
    [
        ({"ignores_adapter": True}, "what was trained is left out"),
        ({"own_template": True}, "given other tokens"),
        ({"mixes_up": True}, "asked at the same time"),
        ({"tells_token_ids": False}, "does not say which tokens"),
    ],
    ids=lambda fault: "-".join(fault) if isinstance(fault, dict) else "",
)
def test_a_server_with_a_fault_is_refused(home: Home, fault: dict[str, Any], match: str) -> None:
    with serving(home.fake(**fault)) as server:
        pool = pool_of(server)
        with pytest.raises(IntegrityError, match=match):
            ask(pool, home.tuned[0])
        assert server.adapters == {}
        pool.close()


def test_other_weights_under_the_name_of_ours_are_refused(home: Home, tmp_path: Path) -> None:
    other = load_tiny_model(save_tiny_model(tmp_path / BASE, "llama", seed=5))
    with serving(FakeVllm(other, model=BASE)) as server:
        pool = pool_of(server)
        with pytest.raises(IntegrityError, match="does not answer as the reference does"):
            ask(pool, home.base)
        pool.close()


def test_an_adapter_is_held_against_the_reference_on_the_prompts_beside_it(
    home: Home, pool: EnginePool, server: FakeVllm, tmp_path: Path
) -> None:
    adapter = write_adapter(load_tiny_model(home.base.base.path), tmp_path / "mine", seed=4)
    write_check_prompts(adapter, [prompt("refund, late parcel, lost card")])
    ask(pool, replace(home.base, name="ft-mine", adapter=adapter))
    tokens = tuple(home.ours.loaded.renderer.prompt_tokens(prompt("refund, late parcel, lost card").messages))
    assert tokens in {tuple(body["prompt"]) for body in server.bodies if body.get("model") == "ft-mine"}


def test_adapters_that_the_server_forgot_are_loaded_again(home: Home, pool: EnginePool, server: FakeVllm) -> None:
    first = ask(pool, home.tuned[0])
    server.adapters.clear()  # as when it was started again
    with ThreadPoolExecutor(8) as threads:
        answers = set(threads.map(lambda _: ask(pool, home.tuned[0]).text, range(8)))
    assert answers == {first.text}


def test_a_deleted_model_leaves_the_server_and_so_do_all_at_the_end(
    home: Home, pool: EnginePool, server: FakeVllm
) -> None:
    for model in home.tuned:
        ask(pool, model)
    assert set(server.adapters) == set(ADAPTERS)
    assert pool.load.num_adapters == 2
    pool.forget(home.tuned[0])
    assert set(server.adapters) == {ADAPTERS[1]}
    pool.close()
    assert server.adapters == {}


@pytest.mark.parametrize(
    ("status", "kind"), [(429, BusyError), (503, ResourceError), (400, ConfigError), (500, RemoteError)]
)
def test_refusals_of_the_server_are_told_as_what_they_are(
    home: Home, pool: EnginePool, server: FakeVllm, status: int, kind: type[FettleError]
) -> None:
    ask(pool, home.base)
    server.status = status
    with pytest.raises(kind) as caught:
        ask(pool, home.base)
    assert server.url not in caught.value.problem


def test_a_stream_that_breaks_off_is_an_error(home: Home, pool: EnginePool, server: FakeVllm) -> None:
    ask(pool, home.base)
    server.breaks_after = 2
    with pytest.raises(RemoteError):
        ask(pool, home.base)


def test_a_server_that_is_not_there_is_told_and_asked_again_later(home: Home) -> None:
    pool = EnginePool(servers=[VllmServer("http://127.0.0.1:9/v1")], load=exact)
    with pytest.raises(RemoteError):
        ask(pool, home.base)
    assert pool.base_paths == ()
    pool.close()


def test_who_hangs_up_ends_the_answer_at_the_server(home: Home, pool: EnginePool, server: FakeVllm) -> None:
    ask(pool, home.base)
    server.gate = threading.Event()
    with pool.engine_of(home.base) as engine:
        stream = engine.submit(prompt("ok"), GenerationOptions(max_new_tokens=300), adapter=None)
        with server.changed:
            assert server.changed.wait_for(lambda: server.num_at_gate, 60)
        stream.give_up()
        assert engine.is_idle
    with server.changed:
        assert server.changed.wait_for(lambda: server.num_hung_up, 60)


def test_too_many_answers_under_way_are_refused(home: Home, server: FakeVllm) -> None:
    pool = pool_of(server, ServingLimits(max_rows=1, max_waiting=1))
    ask(pool, home.base)
    server.gate = threading.Event()
    with pool.engine_of(home.base) as engine:
        streams = engine.submit_several(prompt("ok"), OPTIONS, numbers=range(2))
        with pytest.raises(BusyError, match="at most 2"):
            engine.submit(prompt("ok"), OPTIONS)
        server.gate.set()
        assert len({stream.whole().text for stream in streams}) == 1
    pool.close()


def test_answers_that_are_not_whole_at_the_end_fail(home: Home, server: FakeVllm) -> None:
    pool = pool_of(server)
    ask(pool, home.base)
    server.gate = threading.Event()
    with pool.engine_of(home.base) as engine:
        stream = engine.submit(prompt("ok"), GenerationOptions(max_new_tokens=300))
    pool.close()
    server.gate.set()
    with pytest.raises(ResourceError, match="closed"):
        stream.whole()


def test_base_models_that_the_server_does_not_serve_are_answered_here(
    home: Home, pool: EnginePool, tmp_path: Path
) -> None:
    other = ServedModel(name="other", base=resolve_model(str(save_tiny_model(tmp_path / "other", "llama", seed=3))))
    assert ask(pool, other).text
    with pool.engine_of(other) as engine:
        assert isinstance(engine, SharedEngine)


def test_a_base_model_is_known_by_its_place_or_its_name(home: Home) -> None:
    source = home.base.base
    is_ours: Callable[[ServedBase], bool] = lambda served: served.is_model(source)  # noqa: E731
    assert is_ours(ServedBase(id="x", max_tokens=None, root=str(source.path)))
    assert is_ours(ServedBase(id="Org/Tiny-Llama", max_tokens=None))
    assert is_ours(ServedBase(id="x", max_tokens=None, root="Org/Tiny-Llama"))
    assert not is_ours(ServedBase(id="tiny-llama-2", max_tokens=None))
