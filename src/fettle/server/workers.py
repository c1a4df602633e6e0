"""The workers that a server starts beside itself: watched, started again when they die, and ended with it."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from collections.abc import Sequence

_logger = logging.getLogger("fettle.server")
_SECONDS_BETWEEN_LOOKS = 0.2
_SECONDS_BEFORE_RESTART = 1.0
_SECONDS_TO_STOP = 120.0
"""A training is brought to a checkpoint first."""


class Workers:
    """Some worker processes.

    Args:
        count: How many.
        arguments: What follows `fettle worker` on their command line.
    """

    def __init__(self, count: int, arguments: Sequence[str]) -> None:
        self._command = [sys.executable, "-m", "fettle", "worker", "--with-parent", *arguments]
        self._stops = threading.Event()
        self._processes: list[subprocess.Popen[bytes] | None] = [None] * count
        self._threads = [threading.Thread(target=self._keep_one, args=(n,), name=f"worker {n}") for n in range(count)]

    def start(self) -> None:
        """Start them."""
        for thread in self._threads:
            thread.start()

    def ask_to_stop(self) -> None:
        """Let each bring what it does to a point from which it can go on, and end. Nobody waits for that here."""
        self._stops.set()

    def stop(self) -> None:
        """Ask them, and wait until they have ended."""
        self.ask_to_stop()
        for thread in self._threads:
            thread.join()

    def kill(self) -> None:
        """End them at once. What they train ends with them, and goes on from its last checkpoint the next time."""
        self._stops.set()
        for process in self._processes:
            if process is not None:
                process.kill()

    def _keep_one(self, number: int) -> None:
        while not self._stops.is_set():
            process = self._processes[number] = subprocess.Popen(self._command, stdin=subprocess.PIPE)
            while process.poll() is None and not self._stops.wait(_SECONDS_BETWEEN_LOOKS):
                pass
            if self._stops.is_set():
                _stop(process)
                return
            _logger.error("a worker ended with code %s; another one is started", process.returncode)
            self._stops.wait(_SECONDS_BEFORE_RESTART)


def _stop(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None, "it was started with a pipe"
    process.stdin.close()
    try:
        process.wait(_SECONDS_TO_STOP)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
