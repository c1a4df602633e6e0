"""Models in memory: loaded once and when they are asked for, and let go when others need the place."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from adapters import write_adapter
from fettle.answering.engine import GenerationOptions
from fettle.answering.engine_pool import EnginePool, ServedModel, configured_pool
from fettle.errors import BusyError, ConfigError, ModelError, ResourceError
from fettle.models.load import load_model
from fettle.models.precision import Precision
from fettle.models.resolve import ResolvedModel, resolve_model
from fettle.records import Message, Prompt
from fettle.settings import Settings
from tiny_models import load_tiny_model, save_tiny_model, save_unknown_model

PROMPT = Prompt(example_id="a", messages=(Message(role="user", content="Where is my parcel?"),))
OPTIONS = GenerationOptions(max_new_tokens=8)


class Loader:
    """Loads models and counts them; with a gate it waits until it is opened."""

    def __init__(self) -> None:
        self.loaded: list[str] = []
        self.precisions: list[Precision] = []
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, source: ResolvedModel, precision: Precision) -> Any:
        self.loaded.append(source.public_id)
        self.precisions.append(precision)
        assert self.gate.wait(60)
        return load_model(source, Precision.EXACT)


@pytest.fixture
def loader() -> Loader:
    return Loader()


@pytest.fixture
def pool(loader: Loader) -> Iterator[EnginePool]:
    made = EnginePool(max_bases=2, load=loader)
    yield made
    made.close()


def base(folder: Path, name: str, *, seed: int = 0) -> ServedModel:
    return ServedModel(name=name, base=resolve_model(str(save_tiny_model(folder / name, "llama", seed=seed))))


def said(pool: EnginePool, model: ServedModel) -> str:
    with pool.engine_of(model) as engine:
        stream = engine.submit(PROMPT, OPTIONS, adapter=model.name if model.adapter else None)
    return stream.whole().text


def tuned(of: ServedModel, folder: Path, name: str, *, seed: int) -> ServedModel:
    adapter = write_adapter(load_tiny_model(of.base.path), folder / name, seed=seed)
    return ServedModel(name=name, base=of.base, adapter=adapter)


def test_first_requests_wait_for_one_loading(pool: EnginePool, loader: Loader, tmp_path: Path) -> None:
    model = base(tmp_path, "one")
    loader.gate.clear()
    with ThreadPoolExecutor(8) as threads:
        answers = [threads.submit(said, pool, model) for _ in range(8)]
        loader.gate.set()
        assert len({answer.result(60) for answer in answers}) == 1
    assert loader.loaded == ["one"]


def test_a_base_model_and_its_adapters_are_one_copy(pool: EnginePool, loader: Loader, tmp_path: Path) -> None:
    one = base(tmp_path, "one")
    models = [one, tuned(one, tmp_path, "ft-a", seed=1), tuned(one, tmp_path, "ft-b", seed=2)]
    assert len({said(pool, model) for model in models}) == 3
    assert loader.loaded == ["one"]
    pool.forget(models[1])
    with pool.engine_of(one) as engine:
        assert engine.adapters == ("ft-b",)
        with pytest.raises(ModelError):
            engine.submit(PROMPT, OPTIONS, adapter="ft-a")


def test_each_precision_that_is_asked_for_is_a_copy_and_a_deleted_model_leaves_all(
    pool: EnginePool, loader: Loader, tmp_path: Path
) -> None:
    one = base(tmp_path, "one")
    model = tuned(one, tmp_path, "ft-a", seed=1)
    for precision in (Precision.EXACT, Precision.FAST, Precision.EXACT):
        said(pool, replace(model, precision=precision))
    assert loader.precisions == [Precision.EXACT, Precision.FAST]
    pool.forget(model)
    for precision in (Precision.EXACT, Precision.FAST):
        with pool.engine_of(replace(one, precision=precision)) as engine:
            assert engine.adapters == ()


def test_the_base_model_that_was_idle_longest_leaves(pool: EnginePool, loader: Loader, tmp_path: Path) -> None:
    one, two, three = (base(tmp_path, name, seed=seed) for seed, name in enumerate(("one", "two", "three")))
    first = said(pool, one)
    said(pool, two)
    said(pool, one)
    said(pool, three)
    assert pool.base_paths == (one.base.path, three.base.path)
    said(pool, two)
    assert said(pool, one) == first
    assert loader.loaded == ["one", "two", "three", "two", "one"]


def test_one_that_is_in_use_stays_and_others_are_told_when_to_come_back(pool: EnginePool, tmp_path: Path) -> None:
    one, two, three = (base(tmp_path, name) for name in ("one", "two", "three"))
    with pool.engine_of(one), pool.engine_of(two), pytest.raises(BusyError) as caught, pool.engine_of(three):
        pass
    assert caught.value.retry_after_seconds > 0
    assert said(pool, three)


def test_whoever_may_evict_nothing_gets_free_room_alone(pool: EnginePool, tmp_path: Path) -> None:
    one, two, three = (base(tmp_path, name) for name in ("one", "two", "three"))
    for model in (one, two, one):
        with pool.engine_of(model, may_evict=False) as engine:
            assert engine.is_idle
    with pytest.raises(BusyError, match="there for others"), pool.engine_of(three, may_evict=False):
        pass
    assert set(pool.base_paths) == {one.base.path, two.base.path}


def test_a_model_that_does_not_load_is_tried_again(pool: EnginePool, loader: Loader, tmp_path: Path) -> None:
    one = base(tmp_path, "one")
    weights = one.base.path / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(b"damaged")
    with pytest.raises(ModelError):
        said(pool, one)
    assert pool.base_paths == ()
    weights.write_bytes(content)
    assert said(pool, one)


def test_a_model_that_needs_its_own_forward_is_refused_cleanly(pool: EnginePool, tmp_path: Path) -> None:
    model = ServedModel(name="lfm", base=resolve_model(str(save_unknown_model(tmp_path / "lfm", "lfm2"))))
    with pytest.raises(ConfigError, match=r"cannot be served here: .*conv"):
        said(pool, model)


def test_a_whole_model_that_is_deleted_leaves_memory(pool: EnginePool, tmp_path: Path) -> None:
    one = base(tmp_path, "one")
    said(pool, one)
    pool.forget(one)
    pool.forget(one)
    assert pool.base_paths == ()


def test_a_closed_pool_answers_no_more(pool: EnginePool, tmp_path: Path) -> None:
    one = base(tmp_path, "one")
    said(pool, one)
    pool.close()
    with pytest.raises(ResourceError, match="stopping"):
        said(pool, one)


def test_a_fingerprint_tells_software_and_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = base(tmp_path, "one"), base(tmp_path, "other", seed=1)
    models = [one, other, tuned(one, tmp_path, "ft-a", seed=1), tuned(one, tmp_path, "ft-b", seed=2)]
    told = [model.fingerprint for model in models]
    assert len(set(told)) == 4
    assert told == [model.fingerprint for model in models]
    monkeypatch.setattr("fettle.answering.engine_pool.fettle_version", lambda: "another")
    assert not set(told) & {model.fingerprint for model in models}


def test_servers_of_the_settings_are_asked_and_no_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for text, is_right in (("http://a:1/v1, http://b:2/v1", True), ("ftp://a", False)):
        monkeypatch.setattr("fettle.answering.engine_pool.get_settings", lambda text=text: Settings(vllm_url=text))
        if is_right:
            configured_pool(max_bases=1).close()
            continue
        with pytest.raises(ConfigError, match="FETTLE_VLLM_URL"):
            configured_pool(max_bases=1)
