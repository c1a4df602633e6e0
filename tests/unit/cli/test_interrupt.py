"""Ctrl-C gets through. Each case has an interpreter of its own: an interrupt that went astray would end the tests themselves."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("case", ["raised_at_once", "thrown_away", "ignored", "shares_end"])
def test_ctrl_c_gets_through(case: str) -> None:
    command = [sys.executable, str(Path(__file__).with_name("interrupts.py")), case]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (finished.returncode, finished.stdout) == (0, "as it should be\n"), finished.stderr
