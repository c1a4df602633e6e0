"""The sandbox for tests: one for all of them, and why it may not be there."""

from __future__ import annotations

from functools import lru_cache

import pytest

from fettle.scoring.sandbox.bubblewrap import BubblewrapRunner
from fettle.scoring.sandbox.code_runner import CodeCall, CodeOutcome
from fettle.scoring.sandbox.limits import SandboxLimits

MIB = 1 << 20


@lru_cache(maxsize=1)
def sandbox() -> BubblewrapRunner:
    """A sandbox with room for little; skips the test where there can be none."""
    limits = SandboxLimits(seconds=20, memory_bytes=512 * MIB, disk_bytes=8 * MIB, num_files=200, max_waiting=1)
    runner = BubblewrapRunner(limits)
    if (reason := runner.unavailable_because()) is not None:
        pytest.skip(f"no sandbox on this machine: {reason}")
    return runner


def impatient_sandbox() -> BubblewrapRunner:
    """One whose calls may take a second."""
    sandbox()
    return BubblewrapRunner(SandboxLimits(seconds=1, memory_bytes=512 * MIB))


def outcomes(source: str, *, num_calls: int = 1, runner: BubblewrapRunner | None = None) -> tuple[CodeOutcome, ...]:
    """What comes of some calls with `item["call"]` = 0, 1, ..."""
    calls = [CodeCall(sample={"output_text": "42"}, item={"call": number}) for number in range(num_calls)]
    return (runner or sandbox()).run(source, calls)


def body(*lines: str, before: str = "") -> str:
    """The source of a grader from the lines of its function."""
    return f"{before}\ndef grade(sample, item):\n" + "\n".join(f"    {line}" for line in lines)
