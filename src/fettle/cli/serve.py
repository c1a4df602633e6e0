"""`fettle serve`: OpenAI's fine-tuning API on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from fettle.errors import ConfigError
from fettle.server.settings import MetricsAccess, ServerSettings

if TYPE_CHECKING:
    from fettle.store.database import Store

_LOOPBACK = ("127.0.0.1", "::1", "localhost")


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0: any free one.")] = 8321,
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="A base model to serve and tune: a folder, a GGUF file or org/name. May be given several times."
        ),
    ] = None,
    workers: Annotated[int, typer.Option(min=0, help="Workers started beside the server; 0: none.")] = 1,
    organization: Annotated[str, typer.Option(help="Third field of the names of tuned models.")] = "fettle",
    without_keys: Annotated[
        bool, typer.Option("--without-keys", help="Ask nobody for a key; on the loopback interface alone.")
    ] = False,
    requests_per_minute: Annotated[
        int | None, typer.Option(min=1, help="Most requests of one key in a minute. Default: no limit.")
    ] = None,
    concurrent_requests: Annotated[
        int | None, typer.Option(min=1, help="Most requests of one key at the same time. Default: no limit.")
    ] = None,
    max_base_models: Annotated[
        int, typer.Option(min=1, help="Most base models in memory at once; their tuned models come beside them.")
    ] = 2,
    max_waiting: Annotated[
        int, typer.Option(min=1, help="Most answers of a base model that wait for their turn; others get a 429.")
    ] = 256,
    max_body_mb: Annotated[int, typer.Option(min=1, help="Largest JSON body, MiB.")] = 32,
    cors_origin: Annotated[
        list[str] | None,
        typer.Option(help="Let web pages of this origin (or * for all) use the server. May be given several times."),
    ] = None,
    metrics: Annotated[
        MetricsAccess, typer.Option(help="Who may read /metrics: programs of this machine, everybody, or nobody.")
    ] = MetricsAccess.LOOPBACK,
) -> None:
    """Serve the API. The official openai SDK works unchanged: set base_url and api_key to what the first start prints."""
    from fettle.cli.store import open_store
    from fettle.server.logs import log_to_stderr
    from fettle.server.run import run_server
    from fettle.server.workers import Workers

    if without_keys and host not in _LOOPBACK:
        raise ConfigError(
            f"without keys everybody who reaches {host} could use the server",
            where="--without-keys",
            remedy="leave it out, or listen on 127.0.0.1",
        )
    log_to_stderr()
    store = open_store()
    _put_base_models(store, model or [])
    settings = ServerSettings(
        organization_id=f"org-{organization}",
        requires_key=not without_keys,
        max_body_bytes=max_body_mb << 20,
        max_base_models=max_base_models,
        max_waiting=max_waiting,
        cors_origins=tuple(cors_origin or ()),
        requests_per_minute=requests_per_minute,
        concurrent_requests=concurrent_requests,
        metrics=metrics,
    )

    def is_listening(url: str) -> None:
        _greet(store, url, requires_key=settings.requires_key)

    beside = Workers(workers, ["--organization", organization])
    run_server(store, settings, host=host, port=port, workers=beside, on_listening=is_listening)


def _put_base_models(store: Store, names: list[str]) -> None:
    """Have the embedded model, the packaged embedder where it is installed, and those that are named."""
    from fettle.models.resolve import EMBEDDED_ID, resolve_model
    from fettle.retrieval.embedder import EMBEDDER_ID, EMBEDDER_PACKAGE, is_installed
    from fettle.store.models import ModelKind, put_base_model

    with store.writing() as connection:
        put_base_model(connection, EMBEDDED_ID, EMBEDDED_ID)
        if is_installed():
            put_base_model(connection, EMBEDDER_ID, EMBEDDER_PACKAGE, kind=ModelKind.EMBEDDING)
        for name in names:
            found = resolve_model(name)
            put_base_model(connection, found.public_id, str(found.path.resolve()))


def _greet(store: Store, url: str, *, requires_key: bool) -> None:
    from fettle.models.resolve import EMBEDDED_ID
    from fettle.store.keys import create_key, has_keys

    console = Console(stderr=True)
    console.print(f"Fettle listens on {url}", highlight=False)
    if not requires_key or has_keys(store):
        return
    secret, _ = create_key(store, "made by the first start")
    example = (
        "from openai import OpenAI\n"
        f'client = OpenAI(base_url="{url}/v1", api_key="{secret}")\n'
        f'messages = [{{"role": "user", "content": "Where is my parcel?"}}]\n'
        f'answer = client.chat.completions.create(model="{EMBEDDED_ID}", messages=messages, max_tokens=40)\n'
        "print(answer.choices[0].message.content)\n"
    )
    console.print("This is the first start. Here is a key, which is not shown again, in an example:\n", highlight=False)
    typer.echo(example)
