from __future__ import annotations

import os
import subprocess
import sys

import pytest

from fettle.settings import let_others_run


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.setenv(name, "")  # so that what a test sets is taken back
        monkeypatch.delenv(name)


def test_threads_spin_for_a_short_while() -> None:
    let_others_run()
    assert os.environ["GOMP_SPINCOUNT"] == "3000"


@pytest.mark.parametrize("name", ["GOMP_SPINCOUNT", "OMP_WAIT_POLICY"])
def test_what_the_user_has_set_stays(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "active" if name == "OMP_WAIT_POLICY" else "7")
    before = dict(os.environ)
    let_others_run()
    assert dict(os.environ) == before


def test_the_command_says_it_before_torch_is_there() -> None:
    code = (
        "import sys, os; from fettle.cli import main; assert 'torch' not in sys.modules; sys.argv = ['fettle', '--version']\n"
        "try: main.main()\nexcept SystemExit: pass\nprint(os.environ['GOMP_SPINCOUNT'], 'torch' in sys.modules)"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert finished.stdout.split()[-2:] == ["3000", "False"]


FREED_AND_WANTED_AGAIN = """
import ctypes, resource
from fettle.settings import keep_freed_memory
keep_freed_memory()
c = ctypes.CDLL(None)
c.malloc.restype = ctypes.c_void_p
def faults(num_bytes):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = ctypes.c_void_p(c.malloc(ctypes.c_size_t(num_bytes)))
    ctypes.memset(block, 1, num_bytes)
    c.free(block)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(faults(16_000_000), faults(16_000_000))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc alone is told")
def test_freed_memory_is_used_again_without_asking_the_system() -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    finished = subprocess.run(
        [sys.executable, "-c", FREED_AND_WANTED_AGAIN], capture_output=True, text=True, check=True, env=environment
    )
    first, again = map(int, finished.stdout.split())
    assert first > 3000
    assert again < 100
