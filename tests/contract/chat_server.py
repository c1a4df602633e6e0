"""A real server on a free port, in this process, with tiny models: what the official SDK talks to."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from openai import OpenAI

from adapters import write_adapter
from fettle.answering.engine_pool import EnginePool
from fettle.answering.engines.inbox import ServingLimits
from fettle.answering.engines.vllm_server import VllmServer
from fettle.models.load import LoadedModel, load_model
from fettle.models.precision import Precision
from fettle.models.resolve import ResolvedModel
from fettle.server.app import create_app
from fettle.server.context import Context
from fettle.server.settings import ServerSettings
from fettle.store.database import Store, now
from fettle.store.keys import create_key, list_keys
from fettle.store.models import TunedModel, add_tuned_model, put_base_model
from tiny_models import load_tiny_model, save_tiny_model

BASE = "tiny-llama"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatServer:
    """What tests need of a running server."""

    url: str
    key: str
    engines: EnginePool
    tuned: tuple[str, ...]

    def client(self) -> OpenAI:
        return OpenAI(base_url=f"{self.url}/v1", api_key=self.key, max_retries=0, timeout=120)


@contextmanager
def serving_chat(
    folder: Path,
    *,
    templates: Mapping[str, str | None] | None = None,
    num_adapters: int = 0,
    limits: ServingLimits | None = None,
    vllm_url: str | None = None,
) -> Iterator[ChatServer]:
    """A server with a tiny base model for each template, and some adapters of the first one; perhaps a vLLM server answers."""
    store = Store(folder / "home")
    secret, _ = create_key(store, "test")
    bases = {
        name: save_tiny_model(folder / name, "llama", template=t) for name, t in (templates or {BASE: None}).items()
    }
    with store.writing() as connection:
        for name, base in bases.items():
            put_base_model(connection, name, str(base))
    tuned = _tuned(store, *next(iter(bases.items())), num_adapters)
    servers = [VllmServer(vllm_url)] if vllm_url else []
    engines = EnginePool(max_bases=8, limits=limits, load=_exact, servers=servers, load_reference=_exact)
    app = create_app(Context(store=store, settings=ServerSettings(), engines=engines))
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, access_log=False))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            thread.join(0.01)
            assert thread.is_alive()
        port = server.servers[0].sockets[0].getsockname()[1]
        yield ChatServer(url=f"http://127.0.0.1:{port}", key=secret, engines=engines, tuned=tuned)
    finally:
        server.should_exit = True
        thread.join()


def _exact(source: ResolvedModel, _precision: Precision = Precision.EXACT) -> LoadedModel:
    return load_model(source, Precision.EXACT)


def _tuned(store: Store, base: str, folder: Path, count: int) -> tuple[str, ...]:
    loaded = load_tiny_model(folder) if count else None
    names = []
    for number in range(count):
        name = f"ft:{base}:fettle:a:{number:08}"
        write_adapter(loaded, store.models / f"adapter-{number}", seed=number + 1)
        model = TunedModel(
            id=name,
            project_id=list_keys(store)[0].project_id,
            base=base,
            base_sha256=loaded.source.sha256(),
            template_sha256=loaded.renderer.template.sha256,
            folder=f"adapter-{number}",
            is_adapter=True,
            job_id=None,
            step=None,
            created_at=now(),
        )
        with store.writing() as connection:
            add_tuned_model(connection, model)
        names.append(name)
    return tuple(names)
