from __future__ import annotations

import resource
from pathlib import Path

import pytest

from fettle.training.memory import forget_peak_memory, peak_memory_bytes

NUM_BYTES = 400_000_000


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux alone can forget a peak")
def test_a_peak_that_is_over_is_forgotten() -> None:
    block = bytearray(NUM_BYTES)
    block[::4096] = b"x" * len(block[::4096])
    high = peak_memory_bytes()
    del block
    forget_peak_memory()
    assert peak_memory_bytes() < high - NUM_BYTES // 2


def test_it_is_in_bytes() -> None:
    resident_pages = int(Path("/proc/self/statm").read_text().split()[1]) if Path("/proc/self/statm").exists() else 2500
    resident = resident_pages * resource.getpagesize()
    assert 0.9 * resident < peak_memory_bytes() < 1000 * resident
