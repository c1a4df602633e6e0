"""The `fettle` command in processes that can be watched, interrupted and killed.

Every command is a process of its own, the leader of its own group. It is forked from a server that has the libraries imported
already (but has done nothing with them), so that a study takes seconds; `real=True` starts the interpreter afresh instead.
"""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path

PRELOADED = ("torch", "transformers", "peft", "sentence_transformers", "llguidance", "openai", "fettle.study.run")
SECONDS = 150.0
_context = multiprocessing.get_context("forkserver")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """What a command left: its exit code (negative: the signal that killed it) and what it printed."""

    code: int
    out: str
    error: str

    @property
    def everything(self) -> str:
        """Both outputs on one line each word apart, whatever the width of the terminal was."""
        return " ".join((self.out + self.error).split())


@dataclass(frozen=True, slots=True)
class Command:
    """A running command."""

    process: ForkServerProcess
    log: Path

    def wait(self) -> Finished:
        """Until it has ended."""
        self.process.join(SECONDS)
        if self.process.exitcode is None:
            os.kill(self._pid(), signal.SIGUSR1)  # prints where every thread is
            self.process.join(2)
            self.kill()
            raise TimeoutError(f"the command did not end; it printed:\n{self.log.with_suffix('.err').read_text()}")
        return Finished(
            code=self.process.exitcode,
            out=self.log.with_suffix(".out").read_text(),
            error=self.log.with_suffix(".err").read_text(),
        )

    def wait_until(self, is_so: Callable[[], bool]) -> bool:
        """Until `is_so()`, looked at every few milliseconds; False: the command ended before."""
        end = time.monotonic() + SECONDS
        while self.process.is_alive():
            if is_so():
                return True
            if time.monotonic() > end:
                self.kill()
                raise TimeoutError("what was waited for did not happen")
            time.sleep(0.002)
        return False

    def interrupt(self) -> None:
        """Ctrl-C."""
        os.killpg(self._pid(), signal.SIGINT)

    def kill(self) -> None:
        """SIGKILL to the whole process group."""
        os.killpg(self._pid(), signal.SIGKILL)
        self.process.join()

    def _pid(self) -> int:
        assert self.process.pid is not None, "it was started"
        return self.process.pid


class Runner:
    """Starts `fettle` with FETTLE_HOME in a folder of the test's own.

    Args:
        folder: Working directory of the commands.
        home: FETTLE_HOME.
    """

    def __init__(self, folder: Path, home: Path) -> None:
        self.folder, self.home = folder, home
        self._num_started = 0

    def start(self, *arguments: object, preamble: str = "") -> Command:
        """Start a command, after some code to be run before, and return once it runs as the leader of its group."""
        self._num_started += 1
        log = self.home.parent / f"{self.home.name}-log-{self._num_started}"
        words = [str(argument) for argument in arguments]
        process = _context.Process(target=_run, args=(words, self.folder, self.home, log, preamble))
        process.start()
        command = Command(process, log)
        command.wait_until(log.with_suffix(".started").exists)
        return command

    def __call__(self, *arguments: object) -> Finished:
        """Run a command to its end.

        One forked command in some hundreds has been seen to hang, never one in an interpreter of its own: a fork can inherit a
        lock of a library. So a command that hangs is killed, reported, and started again as users start it; should that hang
        too, the test fails.
        """
        try:
            return self.start(*arguments).wait()
        except TimeoutError as stuck:
            warnings.warn(f"a forked command hung: {stuck}", stacklevel=2)
            return self.real(*arguments)

    def real(self, *arguments: object, preamble: str = "") -> Finished:
        """Run a command in an interpreter of its own, after some code to be run before anything is imported."""
        words = [str(argument) for argument in arguments]
        before = self.home.parent / f"{self.home.name}-before"
        before.mkdir(exist_ok=True)
        (before / "sitecustomize.py").write_text(preamble)
        paths = os.pathsep.join([str(before), *filter(None, sys.path)])
        environment = os.environ | _environment(self.home) | {"PYTHONPATH": paths}
        done = subprocess.run(
            [sys.executable, "-m", "fettle.cli.main", *words],
            cwd=self.folder, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False,
        )  # fmt: skip
        return Finished(code=done.returncode, out=done.stdout, error=done.stderr)


def start_server() -> None:
    """Make the fork server import the libraries, with one thread for each command."""
    os.environ |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    _context.set_forkserver_preload(list(PRELOADED))


def _environment(home: Path) -> dict[str, str]:
    return {"FETTLE_HOME": str(home), "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "COLUMNS": "200"}


def _run(words: list[str], folder: Path, home: Path, log: Path, preamble: str) -> None:
    os.setsid()
    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # a shell has it ignored in what it starts in the background
    for number, suffix in ((1, ".out"), (2, ".err")):
        file = os.open(log.with_suffix(suffix), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, number)
    faulthandler.register(signal.SIGUSR1)
    os.environ |= _environment(home)
    os.chdir(folder)
    sys.argv = ["fettle", *words]
    exec(preamble, {})
    log.with_suffix(".started").touch()
    from fettle.cli.main import main

    main()
