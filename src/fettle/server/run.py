"""Runs the application until it is told to stop; requests that are being answered are answered first."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn

from fettle.answering.engine_pool import configured_pool
from fettle.answering.engines.inbox import ServingLimits
from fettle.errors import ConfigError
from fettle.jobs.stopping import stopped_by_signals
from fettle.scoring.sandbox.bubblewrap import BubblewrapRunner
from fettle.scoring.sandbox.limits import SandboxLimits
from fettle.server.app import create_app
from fettle.server.context import Context
from fettle.server.settings import ServerSettings
from fettle.server.workers import Workers
from fettle.settings import get_settings
from fettle.store.database import Store

_SECONDS_TO_FINISH = 30


class _Server(uvicorn.Server):
    """Leaves signals to us: uvicorn raises them again once it has stopped, which would end the process before its workers have."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Nothing."""
        yield


def run_server(
    store: Store,
    settings: ServerSettings,
    *,
    host: str,
    port: int,
    workers: Workers,
    on_listening: Callable[[str], None],
) -> None:
    """Serve until SIGINT or SIGTERM, then end in order.

    Requests are answered, for up to 30 seconds, and trainings brought to a checkpoint, for up to 120. A second signal ends
    everything at once; what is lost is what was done since the last checkpoint.

    Args:
        store: What is served.
        settings: How.
        host: Address to listen on.
        port: 0: any free one.
        workers: Started once the address is taken, and ended with the server.
        on_listening: Is told the URL once requests are taken.

    Raises:
        ConfigError: The address cannot be listened on.
    """
    with _listen(host, port) as listening:
        config = uvicorn.Config(
            create_app(_context(store, settings)),
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=_SECONDS_TO_FINISH,
        )
        server = _Server(config)

        def stop() -> None:
            server.should_exit = True
            workers.ask_to_stop()

        with stopped_by_signals(stop, before_leaving=workers.kill):
            workers.start()
            try:
                shown = f"[{host}]" if ":" in host else host
                on_listening(f"http://{shown}:{listening.getsockname()[1]}")
                server.run(sockets=[listening])
            finally:
                workers.stop()


def _context(store: Store, settings: ServerSettings) -> Context:
    engines = configured_pool(
        max_bases=settings.max_base_models, limits=ServingLimits(max_waiting=settings.max_waiting)
    )
    return Context(store=store, settings=settings, code_runner=_code_runner(), engines=engines)


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
