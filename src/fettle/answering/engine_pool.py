"""Base models and who answers with them: each is loaded when it is first asked for, and the least recently used leave.

A model is a base model, an adapter of one, or a whole model of its own (trained with all weights). Requests come from many threads:
the first one for a model loads it, and those that come meanwhile wait for the same loading. Base models that
a vLLM server serves are asked there.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import torch

from fettle.answering.check_prompts import read_check_prompts
from fettle.answering.engines.inbox import ServingLimits
from fettle.answering.engines.shared_engine import SharedEngine
from fettle.answering.engines.vllm_server import SETTING, ServedBase, VllmServer
from fettle.answering.engines.vllm_serving import VllmServingEngine
from fettle.answering.serving_engine import ServingEngine
from fettle.errors import BusyError, ConfigError, ModelError, ResourceError
from fettle.files import sha256_of_json
from fettle.models.load import LoadedModel, load_model
from fettle.models.precision import Precision, choose_precision
from fettle.models.resolve import ResolvedModel
from fettle.models.without_weights import load_without_weights
from fettle.records import Message, Prompt
from fettle.settings import get_settings
from fettle.version import fettle_version

_CHECK_PROMPTS = tuple(
    Prompt(example_id=text, messages=(Message(role="user", content=text),))
    for text in (
        "Hello, who are you?",
        "Summarise in one sentence: the parcel came a day late, and nobody was at home.",
    )
)
"""What is checked before it serves where nothing is known of what it was trained for."""
_Key = tuple[Path, Precision]
"""A base model is in memory once for each precision that it is asked in."""


def load_on_processor(source: ResolvedModel) -> LoadedModel:
    """A base model with its weights in this machine's memory, whatever holds the GPUs."""
    return load_model(source, device=torch.device("cpu"))


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedModel:
    """Who answers to a model's name."""

    name: str
    """Its public id, unique among all projects."""
    base: ResolvedModel
    """The weights: of the base model, or of the model itself where it was trained as a whole."""
    adapter: Path | None = None
    """A PEFT folder; None: the base model answers."""
    base_sha256: str | None = None
    """Of the base model that the adapter was trained beside; None: not known."""
    template_sha256: str | None = None
    """Of the chat template that it was trained with; None: not known."""
    precision: Precision = Precision.AUTO
    """In which it answers in this process; a vLLM server has its own."""

    @property
    def fingerprint(self) -> str:
        """Another one for other software, weights or precision. A tuned model never changes: its name stands for its weights."""
        tuned = self.name if self.adapter is not None else None
        return f"fp_{sha256_of_json([fettle_version(), self.base.sha256(), tuned, self.precision.value])[:12]}"


class ModelCatalogue(Protocol):
    """Knows which models there are."""

    def find(self, name: str, project_id: str) -> ServedModel:
        """The model that a project means by a name.

        Raises:
            ModelError: There is none, or it is another project's.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolLoad:
    """What the engines of a pool do at a moment."""

    num_waiting: int
    """Answers that wait for a place in a batch."""
    num_running: int
    """Answers that are being written."""
    num_adapters: int
    """Adapters in memory."""
    num_bases: int
    """Base models in memory."""


@dataclass(slots=True)
class _Entry:
    """A base model, from the moment in which it is first asked for."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    """Held while it is loaded, or an adapter put beside it."""
    engine: ServingEngine | None = None
    num_users: int = 0
    """Requests that have been promised the engine; it is not closed before they have handed in what they want."""


class EnginePool:
    """Engines by base model.

    Args:
        max_bases: Base models in memory at once.
        limits: Of each engine.
        load: Loads a base model in a precision.
        servers: vLLM servers, which answer for the base models that they serve.
        load_reference: Loads what these are held against.
    """

    def __init__(
        self,
        *,
        max_bases: int = 2,
        limits: ServingLimits | None = None,
        load: Callable[[ResolvedModel, Precision], LoadedModel] = load_model,
        servers: Sequence[VllmServer] = (),
        load_reference: Callable[[ResolvedModel], LoadedModel] = load_on_processor,
    ) -> None:
        self._max_bases, self._limits, self._load = max_bases, limits or ServingLimits(), load
        self._servers, self._load_reference = servers, load_reference
        self._entries: OrderedDict[_Key, _Entry] = OrderedDict()  # the least recently used first
        self._lock = threading.Lock()
        self._is_closed = False

    @property
    def base_paths(self) -> Sequence[Path]:
        """The base models in memory, the least recently used first."""
        with self._lock:
            return tuple(path for path, _ in self._entries)

    @property
    def load(self) -> PoolLoad:
        """What the engines do now, without waiting for one that is being loaded."""
        with self._lock:
            engines = [entry.engine for entry in self._entries.values() if entry.engine is not None]
        return PoolLoad(
            num_waiting=sum(engine.num_waiting for engine in engines),
            num_running=sum(engine.num_running for engine in engines),
            num_adapters=sum(engine.num_adapters_in_memory for engine in engines),
            num_bases=len(engines),
        )

    @contextmanager
    def engine_of(self, model: ServedModel, *, may_evict: bool = True) -> Iterator[ServingEngine]:
        """The engine that answers for a model, loaded and checked where it must be; within it the engine is not closed.

        To be called where waiting is no harm: loading takes seconds, or minutes.

        Args:
            model: Who is to answer.
            may_evict: Whether a base model that is idle may be let go to make room for this one's.

        Raises:
            BusyError: All base models that fit are writing answers, or are there and none may be let go, or all adapters.
            ConfigError: The model cannot be served.
            ResourceError: The pool was closed, or there is not enough memory.
            ModelError: The files are damaged.
            IntegrityError: The adapter does not answer as it was trained.
            RemoteError: A vLLM server does not answer.
        """
        key = self._key(model)
        entry = self._entry(key, may_evict=may_evict)
        try:
            with entry.lock:
                if entry.engine is None:
                    entry.engine = self._loaded(model.base, key[1])
                if model.adapter is not None and model.name not in entry.engine.adapters:
                    _require_same_base(model, entry.engine.loaded)
                    prompts = read_check_prompts(model.adapter) or _CHECK_PROMPTS
                    entry.engine.add(model.name, model.adapter, prompts)
            yield entry.engine
        finally:
            with self._lock:
                entry.num_users -= 1
                if entry.engine is None and not entry.num_users and self._entries.get(key) is entry:
                    del self._entries[key]

    def forget(self, model: ServedModel) -> None:
        """Let go of a model that was deleted, once the answers that it is writing are whole."""
        with self._lock:
            keys = [key for key in self._entries if key[0] == model.base.path]
            entries = [self._entries[key] for key in keys]
            if model.adapter is None:
                for key in keys:
                    del self._entries[key]
        for entry in entries:
            with entry.lock:
                if entry.engine is None:
                    continue
                if model.adapter is None:
                    entry.engine.close()
                elif model.name in entry.engine.adapters:
                    entry.engine.remove(model.name)

    def close(self) -> None:
        """Stop all engines. Answers that are not whole end with an error."""
        with self._lock:
            self._is_closed = True
            entries = list(self._entries.values())
            self._entries.clear()
        for entry in entries:
            with entry.lock:
                if entry.engine is not None:
                    entry.engine.close()

    def _key(self, model: ServedModel) -> _Key:
        # A vLLM server has one copy in a precision of its own, so that two here would be two engines over the same adapters.
        return model.base.path, choose_precision(Precision.AUTO if self._servers else model.precision)

    def _entry(self, key: _Key, *, may_evict: bool) -> _Entry:
        """The entry of a base model, promised to one more request; a new one takes the place of one that is idle."""
        leaving: _Entry | None = None
        with self._lock:
            if self._is_closed:
                raise ResourceError("the server is stopping", remedy="ask again in a few seconds")
            entry = self._entries.get(key)
            if entry is None:
                if len(self._entries) >= self._max_bases:
                    if not may_evict:
                        raise _full(f"all {self._max_bases} base models that fit are there for others")
                    leaving = self._entries.pop(self._idle_key())
                entry = self._entries[key] = _Entry()
            self._entries.move_to_end(key)
            entry.num_users += 1
        if leaving is not None and leaving.engine is not None:
            leaving.engine.close()
        return entry

    def _idle_key(self) -> _Key:
        for key, entry in self._entries.items():
            if not entry.num_users and (entry.engine is None or entry.engine.is_idle):
                return key
        raise _full(f"all {self._max_bases} base models that are held in memory are writing answers")

    def _loaded(self, base: ResolvedModel, precision: Precision) -> ServingEngine:
        if (found := self._at_server(base)) is not None:
            return self._asked_over_http(base, *found)
        loaded = self._load(base, precision)
        if loaded.plain_reason is not None:
            raise ConfigError(
                f"the model {base.public_id!r} cannot be served here: {loaded.plain_reason}",
                remedy=f"serve it by a vLLM server ({SETTING}), or train another base model",
            )
        return SharedEngine(loaded, self._limits)

    def _at_server(self, base: ResolvedModel) -> tuple[VllmServer, ServedBase] | None:
        """The server of a base model, and how it serves it; None: none does."""
        for server in self._servers:
            for served in server.bases():
                if served.is_model(base):
                    return server, served
        return None

    def _asked_over_http(self, base: ResolvedModel, server: VllmServer, served: ServedBase) -> ServingEngine:
        engine = VllmServingEngine(
            load_without_weights(base),
            server,
            served,
            limits=self._limits,
            load_reference=lambda: self._load_reference(base),
        )
        try:
            engine.require_as_given(_CHECK_PROMPTS)
        except BaseException:
            engine.close()
            raise
        return engine


def configured_pool(*, max_bases: int, limits: ServingLimits | None = None) -> EnginePool:
    """A pool whose vLLM servers are those of the settings.

    Raises:
        ConfigError: An address is none.
    """
    urls = (get_settings().vllm_url or "").replace(",", " ").split()
    return EnginePool(max_bases=max_bases, limits=limits, servers=[VllmServer(url) for url in urls])


def _full(problem: str) -> BusyError:
    remedy = "ask again in a few seconds, or let the server hold more base models"
    return BusyError(problem, remedy=remedy, retry_after_seconds=5)


def _require_same_base(model: ServedModel, loaded: LoadedModel) -> None:
    """Show that an adapter is put beside the weights, and behind the template, that it was trained with.

    Raises:
        ModelError: They were exchanged since.
    """
    for what, wanted, found in (
        ("weights", model.base_sha256, loaded.source.sha256),
        ("chat template", model.template_sha256, lambda: loaded.renderer.template.sha256),
    ):
        if wanted is not None and wanted != found():
            raise ModelError(
                f"the {what} of the base model {loaded.source.public_id!r} have changed since {model.name!r} was trained",
                remedy="put the earlier base model back, or tune again",
            )
