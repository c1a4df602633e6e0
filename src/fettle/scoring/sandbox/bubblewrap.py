"""The sandbox itself: bubblewrap's command line, one process of it for many calls, and whether it works on this machine.

Inside there is Python with its standard library and the allowed packages, read only, a small `/tmp`, and nothing else: no network,
no other files, no `/proc`, nobody's rights. Where that cannot be had, code is refused; it never runs in another way.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import struct
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property, lru_cache
from pathlib import Path
from typing import IO, Any

from fettle.errors import BusyError
from fettle.scoring.json_values import parse_json
from fettle.scoring.sandbox import inside
from fettle.scoring.sandbox.code_runner import CodeCall, CodeFault, CodeOutcome
from fettle.scoring.sandbox.limits import SandboxLimits
from fettle.scoring.sandbox.packages import allowed_files, imported_packages
from fettle.scoring.sandbox.source import parse_source

_START_SECONDS = 60.0
"""For a sandbox to be ready, packages loaded."""
_GRACE_SECONDS = 10.0
"""What a call may take longer than its limit, which is kept inside, before the whole sandbox is ended."""
_MOST_REPLY_BYTES = 1 << 20
_NOBODY = "65534"
_SYSTEM_LIBRARIES = ("/usr/lib", "/usr/lib64", "/lib", "/lib64", "/etc/ld.so.cache")
_INSTALL = "install bubblewrap 0.8 or later and allow user namespaces"


class SandboxBrokenError(Exception):
    """The sandbox is not there, or has gone. Never seen by a user: it becomes an outcome."""


class BubblewrapRunner:
    """Runs graders in bubblewrap; one sandbox for a list of calls, and a new one where the code has broken it."""

    def __init__(self, limits: SandboxLimits | None = None) -> None:
        self.limits = limits or SandboxLimits()
        self._slots = threading.BoundedSemaphore(self.limits.max_at_once)
        self._places = threading.BoundedSemaphore(self.limits.max_at_once + self.limits.max_waiting)

    @cached_property
    def _reason(self) -> str | None:
        outcome = self._outcomes("def grade(sample, item):\n    return 1", [CodeCall(sample={}, item={})])[0]
        return None if outcome.value == 1.0 else outcome.details

    def unavailable_because(self) -> str | None:
        """Why no code can be run here, found out once by running some; None: it can."""
        return self._reason

    def run(self, source: str, calls: Sequence[CodeCall]) -> tuple[CodeOutcome, ...]:
        """One outcome for each call, in order.

        Raises:
            BusyError: Too many others wait already.
        """
        if self._reason is not None:
            refused = CodeOutcome(value=None, fault=CodeFault.SERVER, details=self._reason)
            return tuple(refused for _ in calls)
        try:
            parse_source(source)
        except ValueError as error:
            return tuple(_failed(f"the source does not compile: {error}") for _ in calls)
        if not self._places.acquire(blocking=False):
            raise BusyError("too many python graders wait already", remedy="send the same request a little later")
        try:
            with self._slots:
                return tuple(self._outcomes(source, calls))
        finally:
            self._places.release()

    def _outcomes(self, source: str, calls: Sequence[CodeCall]) -> list[CodeOutcome]:
        outcomes: list[CodeOutcome] = []
        while len(outcomes) < len(calls):
            try:
                with _Sandbox(source, self.limits) as sandbox:
                    while len(outcomes) < len(calls) and sandbox.is_fit:
                        outcomes.append(sandbox.call(calls[len(outcomes)]))
            except SandboxBrokenError as error:
                outcomes.append(CodeOutcome(value=None, fault=CodeFault.SERVER, details=str(error)))
        return outcomes


class _Sandbox:
    """A running sandbox. To be used by the thread that made it, with whose end it ends."""

    def __init__(self, source: str, limits: SandboxLimits) -> None:
        self._limits = limits
        self.is_fit = True
        """Whether it can take another call."""
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed in __exit__)
        self._set_up = {
            "source": source,
            "preload": imported_packages(source),
            "seconds": limits.seconds,
            "memory_bytes": limits.memory_bytes,
            "disk_bytes": limits.disk_bytes,
            "num_files": limits.num_files,
            "num_threads": limits.num_threads,
            "num_cores": limits.num_cores,
        }

    def __enter__(self) -> _Sandbox:
        try:
            self._process = subprocess.Popen(
                command_line(self._limits),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                env={},
                cwd="/",
                start_new_session=True,
                bufsize=0,
            )
        except OSError as error:
            self._errors.close()
            raise SandboxBrokenError(f"bubblewrap cannot be started ({error.strerror}); {_INSTALL}") from error
        try:
            self._send(self._set_up)
            self._receive(_START_SECONDS)
        except SandboxBrokenError:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            if stream is not None:
                with suppress(OSError):
                    stream.close()

    def call(self, call: CodeCall) -> CodeOutcome:
        """What comes of one call. A sandbox that the call has broken is not fit for another."""
        try:
            self._send({"sample": dict(call.sample), "item": dict(call.item)})
            reply = self._receive(self._limits.seconds + _GRACE_SECONDS)
        except SandboxBrokenError:
            self.is_fit = False
            return _failed("the grader ended the sandbox that it ran in")
        self.is_fit = reply.get("is_clean") is True
        return _failed(str(reply["problem"])) if reply.get("text") is None else outcome_of(str(reply["text"]))

    def _send(self, message: dict[str, Any]) -> None:
        body = json.dumps(message).encode()
        data = memoryview(struct.pack(">I", len(body)) + body)
        try:
            while data:
                data = data[_stream(self._process.stdin).write(data) :]
        except OSError as error:
            raise self._broken() from error

    def _receive(self, seconds: float) -> dict[str, Any]:
        deadline = time.monotonic() + seconds
        length = struct.unpack(">I", self._read(4, deadline))[0]
        if length > _MOST_REPLY_BYTES:
            raise self._broken()
        return json.loads(self._read(length, deadline))

    def _read(self, num_bytes: int, deadline: float) -> bytes:
        stream, data = _stream(self._process.stdout), b""
        while len(data) < num_bytes:
            ready, _, _ = select.select([stream], [], [], max(0.0, deadline - time.monotonic()))
            part = os.read(stream.fileno(), num_bytes - len(data)) if ready else b""
            if not part:
                raise self._broken()
            data += part
        return data

    def _broken(self) -> SandboxBrokenError:
        self._errors.seek(0)
        said = self._errors.read(1 << 20).decode("utf-8", "replace").strip().splitlines()
        return SandboxBrokenError(
            f"the sandbox does not run ({said[-1][:300] if said else 'it said nothing'}); {_INSTALL}"
        )


def outcome_of(text: str) -> CodeOutcome:
    """What a grader's process said, which may be anything: a finite number, or what went wrong."""
    try:
        message = parse_json(text)
    except ValueError:
        message = None
    if isinstance(message, dict):
        reward, error = message.get("reward"), message.get("error")
        if isinstance(reward, float) and abs(reward) != float("inf"):
            return CodeOutcome(value=reward)
        if isinstance(error, str):
            return _failed(error[-inside.MOST_DETAILS :])
    return _failed("the grader wrote into a file descriptor that is not its own")


def command_line(limits: SandboxLimits) -> list[str]:
    """Bubblewrap's command line: everything is shut out, and a few things are let in.

    Raises:
        SandboxBrokenError: There is no bubblewrap.
    """
    program = shutil.which("bwrap")
    if program is None:
        raise SandboxBrokenError(f"bubblewrap (bwrap) is not installed; {_INSTALL}")
    binds = [(path, path) for path in _SYSTEM_LIBRARIES if Path(path).exists()]
    binds += [(str(place), f"/python/{name}") for name, place in _python_files().items()]
    binds += [(str(place), f"/packages/{name}") for name, place in allowed_files().items()]
    binds += [(inside.__file__, "/inside.py")]
    size = str(limits.disk_bytes)
    return [
        program,
        *(
            "--unshare-all",
            "--unshare-user",
            "--disable-userns",
            "--uid",
            _NOBODY,
            "--gid",
            _NOBODY,
            "--cap-drop",
            "ALL",
        ),
        *("--die-with-parent", "--new-session", "--hostname", "sandbox", "--clearenv"),
        *(word for bind in binds for word in ("--ro-bind", *bind)),
        *(word for folder in _hidden_folders() for word in ("--tmpfs", folder, "--remount-ro", folder)),
        *("--dev", "/dev", "--size", size, "--tmpfs", "/dev/shm", "--remount-ro", "/dev"),
        *("--size", size, "--tmpfs", "/tmp", "--remount-ro", "/", "--chdir", "/tmp"),
        *(word for pair in _environment().items() for word in ("--setenv", *pair)),
        *(f"/python/{_program().relative_to(sys.base_prefix)}", "-I", "-S", "-B", "/inside.py"),
    ]


def _environment() -> dict[str, str]:
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return threads | {"HOME": "/tmp", "LANG": "C.UTF-8", "PATH": "/python/bin", "LD_LIBRARY_PATH": "/python/lib"}


def _program() -> Path:
    """The interpreter itself, under its installation and not in the virtual environment."""
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    return (Path(sys.base_prefix) / "bin" / name).resolve()


@lru_cache(maxsize=1)
def _python_files() -> dict[str, Path]:
    """The files of Python itself: place under its installation to place on this machine."""
    prefix = Path(sys.base_prefix).resolve()
    files = [_program(), *(Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib"))]
    library = Path(sysconfig.get_config_var("LIBDIR") or prefix / "lib")
    files += library.glob("libpython*.so*")
    return {str(file.relative_to(prefix)): file for file in files if file.is_relative_to(prefix)}


def _hidden_folders() -> list[str]:
    """Packages of the installation, which are nobody's business."""
    return [
        f"/python/{name}/{folder}"
        for name, place in _python_files().items()
        for folder in ("site-packages", "dist-packages")
        if (place / folder).is_dir()
    ]


def _stream(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None
    return stream


def _failed(details: str) -> CodeOutcome:
    return CodeOutcome(value=None, fault=CodeFault.CODE, details=details)
