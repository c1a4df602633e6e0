"""A real server in a process of its own, with a home of its own, and clients of it.

Its database is a fresh one of the kind that `databases.py` says.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx2
import openai
from published_schema import CheckedTransport

from databases import fresh_database
from fettle.store.database import Store
from fettle.store.keys import create_key

_SECONDS_TO_START, _SECONDS_TO_STOP = 120.0, 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningServer:
    """A server that answers."""

    url: str
    """Without `/v1`."""
    home: Path
    database_url: str | None
    log: Path
    """What the server and its workers have written to standard error."""
    model: str
    """Id of its tiny base model."""
    process: subprocess.Popen[str]

    def new_key(self, project: str) -> str:
        """A key that opens a project."""
        store = Store(self.home, self.database_url)
        try:
            return create_key(store, "test", project)[0]
        finally:
            store.close()

    def client(self, key: str) -> openai.OpenAI:
        """The official client, which fails where an answer does not fit OpenAI's description. It asks once, without retries."""
        http = httpx2.Client(transport=CheckedTransport(), timeout=120)
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=key, http_client=http, max_retries=0)

    def raw(self, key: str | None) -> httpx2.Client:
        """A plain HTTP client with a key, for what the official one cannot send."""
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        return httpx2.Client(base_url=f"{self.url}/v1", headers=headers, timeout=120)


@contextmanager
def running_server(home: Path, models: Sequence[Path], *, workers: int = 1) -> Iterator[RunningServer]:
    """Start `fettle serve`, and end it with everything that it started.

    Args:
        home: Its FETTLE_HOME.
        models: Folders of base models; the first is `RunningServer.model`.
        workers: How many workers do jobs; 0: jobs stay where they are.
    """
    home.mkdir(parents=True, exist_ok=True)
    log = home / "server.log"
    with fresh_database() as database_url:
        command = [sys.executable, "-m", "fettle", "serve", "--port", "0", "--workers", str(workers)]
        for model in models:
            command += ["--model", str(model)]
        environment = os.environ | {"FETTLE_HOME": str(home), "FETTLE_LEASE_SECONDS": "3", "OMP_NUM_THREADS": "1"}
        environment |= {"FETTLE_THREADS": "1", "COLUMNS": "400"}
        if database_url is not None:
            environment["FETTLE_DATABASE_URL"] = database_url
        process = subprocess.Popen(
            command,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            url = _url_of(process, log)
            yield RunningServer(
                url=url, home=home, database_url=database_url, log=log, model=models[0].name, process=process
            )
        finally:
            _end(process)


def _url_of(process: subprocess.Popen[str], log: Path) -> str:
    """Where the server listens, as it says itself."""
    found: list[str] = []
    listens = threading.Event()

    def read() -> None:
        assert process.stderr is not None
        with log.open("w") as file:
            for line in process.stderr:
                file.write(line)
                file.flush()
                if match := re.search(r"listens on (http://\S+)", line):
                    found.append(match[1])
                    listens.set()
        listens.set()

    threading.Thread(target=read, daemon=True).start()
    listens.wait(_SECONDS_TO_START)
    if not found:
        raise RuntimeError(f"the server did not start; it wrote:\n{log.read_text()}")
    return found[0]


def _end(process: subprocess.Popen[str]) -> None:
    """Politely, so that it stops its workers; then the whole group by force."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(_SECONDS_TO_STOP)
    except subprocess.TimeoutExpired:
        pass
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
