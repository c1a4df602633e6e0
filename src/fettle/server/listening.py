"""An address that is listened on, and an application that is served there until it is told to stop."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp

from fettle.errors import ConfigError
from fettle.jobs.stopping import stopped_by_signals

_SECONDS_TO_FINISH = 30


class _Server(uvicorn.Server):
    """Leaves signals to us: uvicorn raises them again once it has stopped, which would end the process before its workers have."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Nothing."""
        yield


def server_of(app: ASGIApp) -> uvicorn.Server:
    """What serves an application. Set its `should_exit`, and it ends in order: requests are answered, for up to 30 seconds."""
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_SECONDS_TO_FINISH,
    )
    return _Server(config)


def listen(host: str, port: int) -> socket.socket:
    """Take an address; port 0 is any free one. Who connects waits until something is served.

    Raises:
        ConfigError: The address cannot be listened on.
    """
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


def url_of(host: str, listening: socket.socket) -> str:
    """Where a client finds it."""
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{listening.getsockname()[1]}"


def serve_until_stopped(app: ASGIApp, *, host: str, port: int, on_listening: Callable[[str], None]) -> None:
    """Serve an application that stands alone until SIGINT or SIGTERM; a second signal ends it at once.

    Args:
        app: What is served.
        host: Address to listen on.
        port: 0: any free one.
        on_listening: Is told the URL once requests are taken.

    Raises:
        ConfigError: The address cannot be listened on.
    """
    with listen(host, port) as listening:
        server = server_of(app)

        def stop() -> None:
            server.should_exit = True

        with stopped_by_signals(stop):
            on_listening(url_of(host, listening))
            server.run(sockets=[listening])
