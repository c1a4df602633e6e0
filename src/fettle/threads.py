"""How threads wait for one another: set before torch is imported, which reads it once."""

from __future__ import annotations

import os

_SPINS = "3000"
"""Turns of a waiting loop, some tens of microseconds: as fast as the default on a quiet machine, and then the thread sleeps."""


def let_others_run() -> None:
    """Let threads that wait for another one soon leave the processor to it.

    GNU OpenMP, which torch's Linux builds use, has them spin for milliseconds. Where another program keeps one of the processor's
    cores busy, the thread that all wait for then does not get its turn: a training step took up to 16 times as long (LOG.md,
    2026-11-26). What the user has set stays.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", _SPINS)
