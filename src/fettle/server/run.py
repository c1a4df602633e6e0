"""Runs the application until it is told to stop; requests that are being answered are answered first."""

from __future__ import annotations

import socket
from collections.abc import Callable

import uvicorn

from fettle.errors import ConfigError
from fettle.scoring.sandbox.bubblewrap import BubblewrapRunner
from fettle.scoring.sandbox.limits import SandboxLimits
from fettle.server.app import create_app
from fettle.server.context import ServerSettings, create_context
from fettle.settings import get_settings
from fettle.store.database import Store

_SECONDS_TO_FINISH = 30


def run_server(
    store: Store, settings: ServerSettings, *, host: str, port: int, on_listening: Callable[[str], None]
) -> None:
    """Serve until SIGINT or SIGTERM.

    Args:
        store: What is served.
        settings: How.
        host: Address to listen on.
        port: 0: any free one.
        on_listening: Is told the URL once requests are taken.

    Raises:
        ConfigError: The address cannot be listened on.
    """
    listening = _listen(host, port)
    config = uvicorn.Config(
        create_app(create_context(store, settings, code_runner=_code_runner())),
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_SECONDS_TO_FINISH,
    )
    shown = f"[{host}]" if ":" in host else host
    on_listening(f"http://{shown}:{listening.getsockname()[1]}")
    with listening:
        uvicorn.Server(config).run(sockets=[listening])


def _code_runner() -> BubblewrapRunner:
    return BubblewrapRunner(SandboxLimits(seconds=get_settings().grader_seconds))


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise ConfigError(
            f"cannot listen on {host}, port {port} ({error.strerror or error})",
            where="--port",
            remedy="choose another port, or stop what uses this one",
        ) from error
    listening.listen(2048)
    return listening
