"""A real server on a free port, in this process, with an embedder of a few lines and somebody who takes in what is attached."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
import uvicorn
from openai import OpenAI
from published_schema import CheckedTransport

from databases import fresh_store
from fettle.answering.engine_pool import EnginePool
from fettle.jobs.taking_in import StopsWhenAsked, TakingIn
from fettle.models.load import LoadedModel, load_model
from fettle.models.precision import Precision
from fettle.models.resolve import ResolvedModel
from fettle.retrieval.embedders import registry
from fettle.server.app import create_app
from fettle.server.context import Context
from fettle.server.open_indexes import OpenEmbedders
from fettle.server.settings import ServerSettings
from fettle.store.keys import create_key
from fettle.store.models import put_base_model
from indexed import WordEmbedder
from tiny_models import save_tiny_model

_CONTEXT_TOKENS = 8192
_SECONDS_BETWEEN_LOOKS = 0.01


class LongWordEmbedder(WordEmbedder):
    """Reads as much as the embedder that comes with Fettle, and has its name."""

    name = registry.DEFAULT_EMBEDDER
    max_tokens = 256

    def __init__(self) -> None:
        super().__init__(num_dimensions=64)


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchServer:
    """A running server."""

    url: str
    """Without `/v1`."""
    context: Context
    model: str

    def new_key(self, project: str) -> str:
        return create_key(self.context.store, "test", project)[0]

    def client(self, key: str) -> OpenAI:
        """The official client, which fails where an answer does not fit OpenAI's description."""
        http = httpx2.Client(transport=CheckedTransport(), timeout=120)
        return OpenAI(base_url=f"{self.url}/v1", api_key=key, http_client=http, max_retries=0)

    def raw(self, key: str) -> httpx2.Client:
        headers = {"Authorization": f"Bearer {key}"}
        return httpx2.Client(base_url=f"{self.url}/v1", headers=headers, timeout=120)


@contextmanager
def serving_search(folder: Path) -> Iterator[SearchServer]:
    """Serve a tiny model with room for passages."""
    base = save_tiny_model(folder / "tiny-reader", "qwen2")
    config = base / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"max_position_embeddings": _CONTEXT_TOKENS}))
    with fresh_store(folder / "home") as store:
        create_key(store, "of nobody")
        with store.writing() as connection:
            put_base_model(connection, base.name, str(base))
        engines = EnginePool(max_bases=2, load=_exact, load_reference=_exact)
        embedders = OpenEmbedders(lambda _: LongWordEmbedder())
        context = Context(store=store, settings=ServerSettings(), engines=engines, embedders=embedders)
        server = uvicorn.Server(uvicorn.Config(create_app(context), port=0, log_config=None, access_log=False))
        stops = threading.Event()
        threads = [threading.Thread(target=server.run), threading.Thread(target=_take_in, args=(context, stops))]
        for thread in threads:
            thread.start()
        try:
            while not server.started:
                threads[0].join(0.01)
                assert threads[0].is_alive()
            port = server.servers[0].sockets[0].getsockname()[1]
            yield SearchServer(url=f"http://127.0.0.1:{port}", context=context, model=base.name)
        finally:
            stops.set()
            threads[1].join()
            server.should_exit = True
            threads[0].join()


def _take_in(context: Context, stops: threading.Event) -> None:
    taking_in = TakingIn(context.store, lambda _: LongWordEmbedder(), StopsWhenAsked(stops))
    while not stops.is_set():
        if not taking_in.do_next():
            stops.wait(_SECONDS_BETWEEN_LOOKS)


def _exact(source: ResolvedModel, _precision: Precision = Precision.EXACT) -> LoadedModel:
    return load_model(source, Precision.EXACT)
