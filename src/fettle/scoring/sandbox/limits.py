"""How much a user's code may take."""

from __future__ import annotations

from dataclasses import dataclass

_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxLimits:
    """Bounds for each call, but for the last two."""

    seconds: float = 120.0
    """Wall clock, loading of packages included."""
    memory_bytes: int = 2048 * _MIB
    """Address space."""
    disk_bytes: int = 256 * _MIB
    """Of `/tmp`, which lies in memory. Empty at the start of every call."""
    num_files: int = 10_000
    """In `/tmp` at once; one more and the call is ended."""
    num_threads: int = 64
    """Not held where the server itself is root: there the address space alone bounds them."""
    num_cores: int = 2
    max_at_once: int = 2
    """Sandboxes at the same time; others wait."""
    max_waiting: int = 8
    """Of those that wait; one more is told to come back."""
