"""`fettle serve` in a process of its own, for tests that stop it, move it, or follow its documents."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from fettle.store.database import Store
from fettle.store.keys import create_key

SECONDS = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A server process."""

    process: subprocess.Popen[bytes]
    home: Path
    log: Path
    url: str
    key: str

    def client(self) -> httpx2.Client:
        return httpx2.Client(base_url=self.url, headers={"authorization": f"Bearer {self.key}"}, timeout=SECONDS)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(SECONDS)


def until(is_so: Callable[[], Any], process: subprocess.Popen[bytes]) -> Any:
    """What `is_so` says once it is no longer nothing."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end and process.poll() is None:
        if found := is_so():
            return found
        time.sleep(0.05)
    raise AssertionError(f"it never came to this; the process: {process.poll()}")


def environment(home: Path) -> dict[str, str]:
    return os.environ | {"FETTLE_HOME": str(home), "FETTLE_LEASE_SECONDS": "3", "OMP_NUM_THREADS": "1"}


@contextmanager
def running(home: Path, model: Path, *options: str) -> Iterator[Running]:
    """`fettle serve`, whose process group is gone at the end."""
    store = Store(home)
    key, _ = create_key(store, "of a test")
    store.close()
    log = home / "log"
    command = [sys.executable, "-m", "fettle", "serve", "--port", "0", "--model", str(model), *options]
    with log.open("ab") as file:
        start = file.tell()
        process = subprocess.Popen(
            command, env=environment(home), stdout=file, stderr=file, start_new_session=True
        )  # fmt: skip
    try:
        found = until(lambda: re.search(rb"listens on (\S+)", log.read_bytes()[start:]), process)
        yield Running(process=process, home=home, log=log, url=found[1].decode(), key=key)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
