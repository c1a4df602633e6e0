"""What runs inside the sandbox: takes calls from a pipe, forks for each of them, and says what came of it.

The standard library alone, for nothing else is certain to be there. The parent of the forks is trusted and holds the pipes to the
outside; a fork closes them, gives up the system calls it has no use for, and only then runs the user's code. A fork's own pipe can
carry nothing but what it might have returned, and is read with suspicion outside.

Messages are four bytes of length and JSON. Paths inside: `/packages`, `/tmp`.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import linecache
import math
import numbers
import os
import platform
import resource
import select
import shutil
import signal
import stat
import struct
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

GRADER_FILE = "<grader>"
MOST_DETAILS = 4000  # characters of a traceback's end
MOST_RESULT = 64 * 1024  # bytes that a fork may say
POLL_SECONDS = 0.2
ENDED_BECAUSE: dict[int, str] = {
    signal.SIGXCPU: ": it used too much processor time",
    signal.SIGKILL: ": it used too much processor time or memory",
    signal.SIGSEGV: " (a crash)",
}
WRITABLE = ("/tmp", "/dev/shm")

PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, SECCOMP_MODE_FILTER = 4, 22, 38, 2
EPERM, ENOSYS = 1, 38
CLONE_THREAD, AF_UNIX, X32_BIT = 0x10000, 1, 0x40000000

# Numbers of system calls by machine: x86-64 from its own table, aarch64 from the generic one.
ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
SYSTEM_CALLS: dict[str, tuple[int, int | None]] = {
    # New processes (a thread is let through below), other processes, and the kernel's stores that outlive a process.
    "fork": (57, None),
    "vfork": (58, None),
    "kill": (62, 129),
    "tkill": (200, 130),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "pidfd_send_signal": (424, 424),
    "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "sched_setaffinity": (203, 122),
    "shmget": (29, 194),
    "semget": (64, 190),
    "msgget": (68, 186),
    "mq_open": (240, 180),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    # Memory that no limit counts, and ways into the kernel that a grader has no use for.
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
}
CLONE, CLONE3 = (56, 220), (435, 435)
SOCKET, SOCKETPAIR = (41, 198), (53, 199)
TGKILL, PRLIMIT64 = (234, 131), (302, 261)


def read_exactly(fd: int, num_bytes: int) -> bytes:
    """So many bytes; fewer at the end of the stream."""
    parts = []
    while num_bytes > 0 and (part := os.read(fd, min(num_bytes, 1 << 20))):
        parts.append(part)
        num_bytes -= len(part)
    return b"".join(parts)


def receive(fd: int) -> Any:
    """The next message; None at the end of the stream."""
    head = read_exactly(fd, 4)
    return json.loads(read_exactly(fd, struct.unpack(">I", head)[0])) if len(head) == 4 else None


def send(fd: int, message: Any) -> None:
    """Write a message."""
    body = json.dumps(message).encode()
    data = struct.pack(">I", len(body)) + body
    while data:
        data = data[os.write(fd, data) :]


# ---------------------------------------------------------------------------------------------------- the trusted parent


def main() -> None:
    """Serve calls until the outside closes the pipe."""
    requests, replies = os.dup(0), os.dup(1)
    set_up = receive(requests)
    prctl(PR_SET_DUMPABLE, 0)  # no fork can look into this process
    with suppress(OSError):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: set_up["num_cores"]])
    sys.path[:] = [path for path in sys.path if path.startswith("/python/")] + ["/packages"]
    seccomp_filter(os.getpid())  # fails here, before anything is run, where the machine is of another kind
    for name in set_up["preload"]:
        with suppress(Exception):
            importlib.import_module(name)
    send(replies, {"ready": True})
    while (call := receive(requests)) is not None:
        reply = run_call(set_up, call, close_first=(requests, replies))
        send(replies, reply | {"is_clean": is_clean()})


def run_call(set_up: Any, call: Any, *, close_first: tuple[int, ...]) -> dict[str, str | None]:
    """What came of one call: `text`, as the fork wrote it, or `problem`. The fork has gone afterwards."""
    result_read, result_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            for fd in (*close_first, result_read):
                os.close(fd)
            run_users_code(set_up, call, result_write)
        finally:
            os._exit(1)
    os.close(result_write)
    text, problem = watch(result_read, set_up)
    os.close(result_read)
    if text is None and problem is None:
        problem = ended_how(pid)
    with suppress(ProcessLookupError, ChildProcessError):
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    return {"text": text, "problem": problem}


def watch(fd: int, set_up: Any) -> tuple[str | None, str | None]:
    """(what the fork said or None, what went wrong or None); both None: it ended without a word."""
    deadline = time.monotonic() + set_up["seconds"]
    said = b""
    while True:
        left = deadline - time.monotonic()
        if left <= 0:
            return None, f"the grader took longer than {set_up['seconds']:g} seconds"
        ready, _, _ = select.select([fd], [], [], min(left, POLL_SECONDS))
        if ready:
            part = os.read(fd, 65536)
            said += part
            if len(said) > MOST_RESULT:
                return None, "the grader wrote into a file descriptor that is not its own"
            if not part or (len(said) >= 4 and len(said) - 4 >= struct.unpack(">I", said[:4])[0]):
                return (said[4:].decode("utf-8", "replace"), None) if len(said) > 4 else (None, None)
        if num_files_used() > set_up["num_files"]:
            return None, f"the grader made more than {set_up['num_files']:,} files"


def ended_how(pid: int) -> str:
    """Why a fork closed its pipe and said nothing. Most have ended; one that has not is given a second."""
    deadline = time.monotonic() + 1
    ended, status = os.waitpid(pid, os.WNOHANG)
    while not ended and time.monotonic() < deadline:
        time.sleep(0.01)
        ended, status = os.waitpid(pid, os.WNOHANG)
    if ended and os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        why = ENDED_BECAUSE.get(number, "")
        return f"the grader's process was ended by signal {number}{why}"
    return "the grader's process ended without a result"


def num_files_used() -> int:
    """Files and folders in all writable places."""
    return sum(figures.f_files - figures.f_ffree for figures in map(os.statvfs, WRITABLE))


def is_clean() -> bool:
    """Empty the writable places; False when something stays, and no other call may see it."""
    for folder in map(Path, WRITABLE):
        with suppress(OSError, RecursionError):
            folder.chmod(stat.S_IRWXU)
            for inner, names, _ in os.walk(folder):  # from the top, so that what was closed can be entered
                for path in (Path(inner, name) for name in names):
                    if not path.is_symlink():
                        path.chmod(stat.S_IRWXU)
            for path in folder.iterdir():
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink()
    return not any(any(Path(folder).iterdir()) for folder in WRITABLE)


# ---------------------------------------------------------------------------------------------------- the fork


def run_users_code(set_up: Any, call: Any, result: int) -> None:
    """Call the user's `grade` and write what it gives, or the end of the traceback."""
    nothing = os.open("/dev/null", os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(nothing, fd)
    os.chdir("/tmp")
    give_up_rights(set_up)
    finish = answerer(result)
    try:
        source = set_up["source"]
        linecache.cache[GRADER_FILE] = (len(source), None, source.splitlines(keepends=True), GRADER_FILE)
        names = {"__name__": "grader", "__builtins__": __builtins__}
        exec(compile(source, GRADER_FILE, "exec", dont_inherit=True), names)
        finish({"reward": as_number(names["grade"](call["sample"], call["item"]))})
    except BaseException as error:
        finish({"error": described(error)})


def answerer(result: int) -> Callable[[Any], None]:
    """Writes a result and ends the process; keeps the functions it needs, whatever the user's code puts in their place."""
    dumps, write, leave, pack = json.dumps, os.write, os._exit, struct.pack

    def finish(message: Any) -> None:
        body = dumps(message).encode()
        write(result, pack(">I", len(body)) + body)
        leave(0)

    return finish


def as_number(value: Any) -> float:
    """A finite float.

    Raises:
        TypeError, ValueError: It is something else.
    """
    if not isinstance(value, numbers.Real):
        raise TypeError(f"grade() has to return a number, and it returned {type(value).__name__}")
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"grade() has to return a finite number, and it returned {number}")
    return number


def described(error: BaseException) -> str:
    """The end of a traceback, our own frames left out."""
    try:
        frames = error.__traceback__
        while frames is not None and frames.tb_frame.f_code.co_filename != GRADER_FILE:
            frames = frames.tb_next
        text = "".join(traceback.format_exception(type(error), error, frames))
    except BaseException:
        text = type(error).__name__
    return text.encode("utf-8", "replace").decode()[-MOST_DETAILS:].strip()


def give_up_rights(set_up: Any) -> None:
    """Bound what this process may take, and refuse it all it has no use for. There is no way back."""
    seconds = math.ceil(set_up["seconds"])
    processor_seconds = seconds * set_up["num_cores"] + 1
    for limit, value in (
        (resource.RLIMIT_AS, set_up["memory_bytes"]),
        (resource.RLIMIT_CPU, processor_seconds),
        (resource.RLIMIT_FSIZE, set_up["disk_bytes"]),
        (resource.RLIMIT_NPROC, set_up["num_threads"]),
        (resource.RLIMIT_NOFILE, 128),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
    ):
        _, hard = resource.getrlimit(limit)
        bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(limit, (bound, bound))
    program = seccomp_filter(os.getpid())
    buffer = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("HxxxxxxQ", len(program) // 8, ctypes.addressof(buffer))
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.create_string_buffer(header, len(header)))


def prctl(option: int, *arguments: Any) -> None:
    """Linux's `prctl`.

    Raises:
        OSError: It was refused.
    """
    library = ctypes.CDLL(None, use_errno=True)
    padded = [*arguments, 0, 0, 0, 0][:4]
    values = [value if isinstance(value, ctypes.Array) else ctypes.c_ulong(value) for value in padded]
    if library.prctl(ctypes.c_int(option), *values) != 0:
        raise OSError(ctypes.get_errno(), f"prctl {option} was refused")


def seccomp_filter(own_pid: int) -> bytes:
    """A filter of system calls, as the classic BPF program that the kernel takes: all is allowed but what is named here.

    Raises:
        RuntimeError: The numbers of this machine's system calls are not known here.
    """
    machine = platform.machine()
    if machine not in ARCHITECTURES:
        raise RuntimeError(f"python graders need an x86-64 or aarch64 processor, and this is {machine}")
    column = list(ARCHITECTURES).index(machine)
    load, equal, at_least, has_bits, answer = 0x20, 0x15, 0x35, 0x45, 0x06
    allow, refuse, unknown = 0x7FFF0000, 0x00050000 | EPERM, 0x00050000 | ENOSYS
    number_at, machine_at, first_argument_at = 0, 4, 16

    def step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
        return struct.pack("HBBI", code, if_true, if_false, value)

    def only_if(number: int, test: int, *values: int) -> list[bytes]:
        """Let a system call through where its first argument passes the test with one of the values."""
        tests = [step(test, value, len(values) - place, 0) for place, value in enumerate(values)]
        inner = [step(load, first_argument_at), *tests, step(answer, refuse), step(answer, allow)]
        return [step(equal, number, 0, len(inner)), *inner]

    program = [step(load, machine_at), step(equal, ARCHITECTURES[machine], 1, 0), step(answer, refuse)]
    program += [step(load, number_at), step(at_least, X32_BIT, 0, 1), step(answer, refuse)]
    for numbers_by_machine in SYSTEM_CALLS.values():
        if (number := numbers_by_machine[column]) is not None:
            program += [step(equal, number, 0, 1), step(answer, refuse)]
    program += [step(equal, CLONE3[column], 0, 1), step(answer, unknown)]  # the C library then takes clone
    program += only_if(CLONE[column], has_bits, CLONE_THREAD)
    program += only_if(SOCKET[column], equal, AF_UNIX)
    program += only_if(SOCKETPAIR[column], equal, AF_UNIX)
    program += only_if(TGKILL[column], equal, own_pid)
    program += only_if(PRLIMIT64[column], equal, 0, own_pid)
    return b"".join([*program, step(answer, allow)])


if __name__ == "__main__":
    main()
