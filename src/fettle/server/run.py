"""Runs the application until it is told to stop; requests that are being answered are answered first."""

from __future__ import annotations

from collections.abc import Callable

from fettle.answering.engine_pool import configured_pool
from fettle.answering.engines.inbox import ServingLimits
from fettle.jobs.stopping import stopped_by_signals
from fettle.scoring.sandbox.bubblewrap import BubblewrapRunner
from fettle.scoring.sandbox.limits import SandboxLimits
from fettle.server.app import create_app
from fettle.server.context import Context
from fettle.server.listening import listen, server_of, url_of
from fettle.server.settings import ServerSettings
from fettle.server.workers import Workers
from fettle.settings import get_settings
from fettle.store.database import Store


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
    with listen(host, port) as listening:
        server = server_of(create_app(_context(store, settings)))

        def stop() -> None:
            server.should_exit = True
            workers.ask_to_stop()

        with stopped_by_signals(stop, before_leaving=workers.kill):
            workers.start()
            try:
                on_listening(url_of(host, listening))
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
