"""`fettle worker`: does the jobs that wait in the store."""

from __future__ import annotations

import os
import sys
import threading
from typing import TYPE_CHECKING, Annotated

import typer

from fettle.settings import get_settings

if TYPE_CHECKING:
    from fettle.jobs.worker import Worker


def worker(
    organization: Annotated[str, typer.Option(help="Part of the names of tuned models.")] = "fettle",
    with_parent: Annotated[
        bool, typer.Option("--with-parent", hidden=True, help="End when standard input is closed.")
    ] = False,
) -> None:
    """Do jobs until stopped. Any number of workers may share one store; `fettle serve` starts one by itself."""
    from fettle.cli.store import open_store
    from fettle.jobs.stopping import stopped_by_signals
    from fettle.jobs.worker import Worker, WorkerSettings
    from fettle.server.logs import log_to_stderr

    log_to_stderr()
    settings = WorkerSettings(lease_seconds=get_settings().lease_seconds, organization_id=f"org-{organization}")
    working = Worker(open_store(), settings)
    if with_parent:
        threading.Thread(target=_stop_with_parent, args=(working,), daemon=True).start()
    with stopped_by_signals(working.stop):
        working.run()


def _stop_with_parent(working: Worker) -> None:
    os.read(sys.stdin.fileno(), 1)  # nothing is ever written there; it closes when the parent ends, be it killed
    working.stop()
