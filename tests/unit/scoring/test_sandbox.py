"""What the sandbox gives to code that means well, and how it bears code that does not."""

import sys
from pathlib import Path

import pytest

from fettle.errors import BusyError
from fettle.scoring.sandbox import bubblewrap
from fettle.scoring.sandbox.bubblewrap import BubblewrapRunner, outcome_of
from fettle.scoring.sandbox.code_runner import CodeCall, CodeFault
from fettle.scoring.sandbox.limits import SandboxLimits
from fettle.scoring.sandbox.packages import allowed_files
from sandboxes import body, impatient_sandbox, outcomes, sandbox

SYSTEM_CALL = "import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\n"


class TestCodeThatMeansWell:
    def test_it_sees_sample_and_item_and_gives_a_number(self) -> None:
        source = body("return len(sample['output_text']) + item['call'] / 2")
        assert [found.value for found in outcomes(source, num_calls=3)] == [2.0, 2.5, 3.0]

    @pytest.mark.parametrize(
        ("result", "wanted"),
        [("1", 1.0), ("True", 1.0), ("-2.5", -2.5), ("__import__('fractions').Fraction(1, 2)", 0.5)],
    )
    def test_numbers(self, result: str, wanted: float) -> None:
        assert outcomes(body(f"return {result}"))[0].value == wanted

    @pytest.mark.parametrize("result", ["None", "'1'", "[1]", "float('nan')", "float('inf')", "10**400", "1j", "grade"])
    def test_all_else_is_told_apart(self, result: str) -> None:
        (found,) = outcomes(body(f"return {result}"))
        assert (found.value, found.fault) == (None, CodeFault.CODE)
        assert found.details

    def test_an_exception_gives_the_end_of_its_traceback_and_nothing_of_ours(self) -> None:
        (found,) = outcomes(body("return helper(0)", before="def helper(x):\n    return 1 / x"))
        assert found.details.endswith("ZeroDivisionError: division by zero")
        assert 'File "<grader>", line 2, in helper\n    return 1 / x' in found.details
        assert "inside.py" not in found.details

    def test_a_long_traceback_is_cut_at_its_start(self) -> None:
        (found,) = outcomes(body("raise ValueError('x' * 1_000_000 + '\\ud800 the end')"))
        assert len(found.details) <= 4000
        assert found.details.endswith("the end")

    def test_the_allowed_packages_are_there_and_no_others(self) -> None:
        modules = ["numpy", "scipy.stats", "rapidfuzz", "sklearn.metrics", "jsonschema", "pydantic", "yaml"]
        imports = "\n".join(f"import {name}" for name in modules)
        (found,) = outcomes(body("return numpy.float32(numpy.linalg.det(numpy.eye(3)))", before=imports))
        assert found.value == 1.0, found.details
        for module in ("torch", "fettle", "pip"):
            (refused,) = outcomes(body("return 1", before=f"import {module}"))
            assert f"No module named '{module}'" in refused.details

    def test_what_an_allowed_package_needs_is_allowed(self) -> None:
        assert {"numpy", "joblib", "attr", "pydantic_core"} <= allowed_files().keys()

    def test_it_may_write_into_its_temporary_folder_and_start_threads(self) -> None:
        source = body(
            "with tempfile.TemporaryFile() as file:",
            "    thread = threading.Thread(target=file.write, args=(b'abc',))",
            "    thread.start()",
            "    thread.join()",
            "    return file.tell()",
            before="import tempfile, threading",
        )
        assert outcomes(source)[0].value == 3.0

    def test_source_that_does_not_compile_is_not_run(self) -> None:
        assert "does not compile" in outcomes("def grade(:")[0].details


class TestNoCallSeesAnother:
    def test_files_variables_and_environment_are_as_new(self) -> None:
        source = body(
            "places = os.listdir('/tmp') + os.listdir('/dev/shm')",
            "found = len(places) + len(seen) + ('MARK' in os.environ) + hasattr(json, 'mark')",
            "seen.append(1)",
            "json.mark = os.environ['MARK'] = '1'",
            "os.makedirs('/tmp/a/b')",
            "open('/tmp/a/b/c', 'w').close()",
            "open('/dev/shm/x', 'w').close()",
            "os.symlink('/python', '/tmp/link')",
            "os.chmod('/tmp/a/b', 0)",
            "os.chmod('/tmp/a', 0)",
            "os.chmod('/tmp', 0)",
            "return found",
            before="import json, os\nseen = []",
        )
        assert [found.value for found in outcomes(source, num_calls=3)] == [0.0, 0.0, 0.0]

    def test_folders_nested_without_end_go_too(self) -> None:
        nested = ["for _ in range(150):", "    os.mkdir('a')", "    os.chdir('a')"]
        source = body("before = len(os.listdir('/tmp'))", *nested, "return before", before="import os")
        assert [found.value for found in outcomes(source, num_calls=2)] == [0.0, 0.0]

    def test_one_that_fails_leaves_the_others_alone(self) -> None:
        source = body("os._exit(0) if item['call'] == 1 else None", "return item['call']", before="import os")
        assert [found.value for found in outcomes(source, num_calls=3)] == [0.0, None, 2.0]

    def test_one_that_ends_the_sandbox_itself_leaves_the_others_alone(self) -> None:
        kill_the_parent = [
            "if item['call'] == 1:",
            "    reading, writing = os.pipe()",
            "    fcntl.fcntl(reading, fcntl.F_SETOWN, os.getppid())",
            "    fcntl.fcntl(reading, 10, 9)  # F_SETSIG, SIGKILL",
            "    fcntl.fcntl(reading, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)",
            "    os.write(writing, b'x')",
        ]
        found = outcomes(body(*kill_the_parent, "return item['call']", before="import fcntl, os"), num_calls=3)
        assert [one.value for one in found] == [0.0, None, 2.0]
        assert found[1].fault is CodeFault.CODE


@pytest.mark.parametrize(
    ("lines", "before", "says"),
    [
        (["os.kill(-1, 9)"], "import os", "PermissionError"),
        (["os.killpg(0, 9)"], "import os", "PermissionError"),
        (["os.kill(os.getppid(), 9)"], "import os", "PermissionError"),
        (["os.fork()"], "import os", "PermissionError"),
        (["subprocess.run(['/python/bin/python3'])"], "import subprocess", "Error"),
        (["os.execv('/inside.py', ['x'])"], "import os", "PermissionError"),
        (["os._exit(0)"], "import os", "ended without a result"),
        (["sys.exit(0)"], "import sys", "SystemExit"),
        (["os.abort()"], "import os", "signal 6"),
        (["ctypes.string_at(0)"], "import ctypes", "signal 11"),
        (["os.closerange(0, 1000)", "return 1"], "import os", "ended without a result"),
        (["sys.settrace(lambda *_: 1 / 0)", "return 1"], "import sys", "ZeroDivisionError"),
        (["chunks = []", "while True: chunks.append(bytearray(10_000_000))"], "", "MemoryError"),
        (["file = open('/tmp/x', 'wb')", "while True: file.write(bytes(1_000_000))"], "", "File too large"),
        (["for n in range(99): open(f'/tmp/{n}', 'wb').write(bytes(1_000_000))"], "", "No space left"),
        (["for n in range(99): open(f'/dev/shm/{n}', 'wb').write(bytes(1_000_000))"], "", "No space left"),
        (["for n in range(10**9): open(f'/tmp/{n}', 'w').close()"], "", "more than 200 files"),
        (["kept = [open('/dev/null') for _ in range(10_000)]"], "", "Too many open files"),
        (["while True: threading.Thread(target=threading.Event().wait).start()"], "import threading", "start new thread"),
        (["os.memfd_create('x')"], "import os", "PermissionError"),
        (["os.sched_setaffinity(0, range(64))"], "import os", "PermissionError"),
        (["resource.setrlimit(resource.RLIMIT_AS, (-1, -1))"], "import resource", "not allowed to raise"),
        (["resource.prlimit(os.getppid(), resource.RLIMIT_CPU, (0, 0))"], "import os, resource", "PermissionError"),
        (["socket.create_connection(('127.0.0.1', 80))"], "import socket", "PermissionError"),
        (["socket.getaddrinfo('example.org', 80)"], "import socket", "gaierror"),
        (["socket.socket(40, socket.SOCK_STREAM)"], "import socket", "PermissionError"),
        (["open('/etc/passwd')"], "", "No such file"),
        (["os.listdir('/proc')"], "import os", "No such file"),
        (["os.listdir('/home')"], "import os", "No such file"),
        (["os.listdir('/root')"], "import os", "No such file"),
        (["open('/x', 'w')"], "", "Read-only file system"),
        (["open('/dev/x', 'w')"], "", "Read-only file system"),
        (["open('/packages/x', 'w')"], "", "Read-only file system"),
        (["raise Nasty"], "class Nasty(Exception):\n    def __str__(self): raise SystemExit", "Nasty"),
    ],
)  # fmt: skip
def test_attacks_end_with_the_call_and_the_next_call_is_served(lines: list[str], before: str, says: str) -> None:
    attack = body("if item['call'] == 1: return 0.5", *lines, before=before)
    hurt, well = outcomes(attack, num_calls=2)
    assert (hurt.value, hurt.fault) == (None, CodeFault.CODE)
    assert says in hurt.details
    assert well.value == 0.5, well.details


@pytest.mark.parametrize("top", ["raise KeyError('at the top')", "import no_such_module", "del grade"])
def test_what_fails_before_grade_is_called_fails_every_call(top: str) -> None:
    for found in outcomes(body("return 1") + f"\n{top}", num_calls=2):
        assert (found.value, found.fault) == (None, CodeFault.CODE)
        assert "Error" in found.details


@pytest.mark.parametrize(
    ("call", "arguments"),
    [
        ("ptrace", "16, os.getppid(), 0, 0"),
        ("unshare", "0x10000000"),
        ("shmget", "5, 4096, 0o1666"),
        ("msgget", "5, 0o1666"),
        ("semget", "5, 1, 0o1666"),
        ("mount", "None, b'/tmp', b'tmpfs', 0, None"),
        ("process_vm_readv", "os.getppid(), None, 0, None, 0, 0"),
        ("vfork", ""),
        ("syscall", "435, None, 0"),  # clone3 is told to be unknown, so that threads still start
        ("syscall", "298, None, 0, -1, -1, 0"),
    ],
)
def test_system_calls_that_a_grader_has_no_use_for_are_refused(call: str, arguments: str) -> None:
    (found,) = outcomes(body(f"libc.{call}({arguments})", "return ctypes.get_errno()", before=SYSTEM_CALL))
    assert found.value in (1.0, 38.0)


def test_nothing_of_the_server_is_visible() -> None:
    source = body(
        "raise ValueError(sorted(os.environ), os.getuid(), sorted(os.listdir('/')), open('/inside.py').name, os.getpid())",
        before="import os",
    )
    (found,) = outcomes(source)
    assert "['HOME', 'LANG', 'LD_LIBRARY_PATH', 'MKL_NUM_THREADS'" in found.details
    assert "65534" in found.details
    for name in ("FETTLE", "VIRTUAL_ENV", str(Path.home()), str(Path(sys.prefix)), "home", "root", "proc", "var"):
        assert f"'{name}" not in found.details


@pytest.mark.parametrize(
    "lines",
    [
        ["while True: pass"],
        ["while True: print('x' * 100_000)"],
        ["while True: os.write(2, bytes(100_000))"],
        ["time.sleep(1000)"],
        [
            "for number in range(1, 65):",
            "    try: signal.signal(number, signal.SIG_IGN)",
            "    except (OSError, ValueError): pass",
            "while True: pass",
        ],
        [
            "for fd in range(3, 99):",
            "    try: os.write(fd, b'\\xff' * 60_000)",
            "    except OSError: pass",
            "while True: pass",
        ],
    ],
)
def test_what_takes_too_long_is_ended(lines: list[str]) -> None:
    attack = body("if item['call'] == 1: return 0.5", *lines, before="import os, signal, time")
    hurt, well = outcomes(attack, num_calls=2, runner=impatient_sandbox())
    assert (hurt.value, hurt.fault) == (None, CodeFault.CODE)
    assert "longer than 1 seconds" in hurt.details
    assert well.value == 0.5


class TestForgedResults:
    def test_prints_are_no_result(self) -> None:
        source = body(
            "print('{\"reward\": 1.0}', flush=True)",
            "os.write(2, b'{\"reward\": 1.0}')",
            "return 0.25",
            before="import os",
        )
        assert outcomes(source)[0].value == 0.25

    def test_what_is_written_into_our_pipe_counts_only_if_it_could_have_been_returned(self) -> None:
        forged = [
            "for fd in range(3, 99):",
            "    try: os.write(fd, len(text).to_bytes(4, 'big') + text)",
            "    except OSError: pass",
        ]
        for text in (
            '{"reward": 1e999}',
            '{"reward": NaN}',
            '{"reward": "1"}',
            "[]",
            "no json",
            "[" * 9000,
            '{"reward": true}',
        ):
            (found,) = outcomes(body(f"text = {text.encode()!r}", *forged, "return 0.25", before="import os"))
            assert (found.value, found.fault) == (None, CodeFault.CODE)

    def test_functions_that_it_puts_in_the_place_of_ours_do_not_matter(self) -> None:
        source = body(
            "json.dumps, os.write, os._exit = (lambda *_: '{}'), (lambda *_: 0), (lambda *_: None)",
            "math.isfinite = lambda _: True",
            "return float('nan')",
            before="import json, math, os",
        )
        (found,) = outcomes(source)
        assert (found.value, found.fault) == (None, CodeFault.CODE)

    @pytest.mark.parametrize(
        "text", ["", "null", "{}", '{"reward": 1}', '{"reward": -1e999}', '{"error": 5}', '{"reward": Infinity}']
    )
    def test_what_our_side_never_writes_is_no_value(self, text: str) -> None:
        assert outcome_of(text).value is None


class TestAMachineWithoutASandbox:
    CALL = CodeCall(sample={}, item={})

    def refusal(self) -> str:
        runner = BubblewrapRunner()
        (found,) = runner.run("def grade(sample, item): return 1", [self.CALL])
        assert (found.value, found.fault) == (None, CodeFault.SERVER)
        assert found.details == runner.unavailable_because()
        return found.details

    def test_no_bubblewrap(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(bubblewrap.shutil, "which", lambda _: None)
        assert "bubblewrap (bwrap) is not installed; install bubblewrap 0.8" in self.refusal()

    def test_bubblewrap_that_may_not_make_namespaces(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        program = tmp_path / "bwrap"
        program.write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n")
        program.chmod(0o755)
        monkeypatch.setattr(bubblewrap.shutil, "which", lambda _: str(program))
        assert "No permissions to create new namespace" in self.refusal()


def test_more_than_may_wait_are_told_to_come_back() -> None:
    runner = BubblewrapRunner(SandboxLimits(max_at_once=1, max_waiting=0))
    sandbox()
    assert runner.unavailable_because() is None
    assert runner._places.acquire(blocking=False)
    with pytest.raises(BusyError):
        outcomes(body("return 1"), runner=runner)
    runner._places.release()
    assert outcomes(body("return 1"), runner=runner)[0].value == 1.0
