"""The memory that this process holds, the most that it has held, and what the machine has left."""

from __future__ import annotations

import contextlib
import resource
import sys
from pathlib import Path

_CLEAR = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")
_RESET_PEAK = "5"


def forget_peak_memory() -> None:
    """Let `peak_memory_bytes` count from now on. Linux alone can; elsewhere the peak stays that of the whole process.

    Source: `clear_refs` in proc_pid_clear_refs(5).
    """
    with contextlib.suppress(OSError):
        _CLEAR.write_text(_RESET_PEAK)


def peak_memory_bytes() -> int:
    """The most memory this process has held, the model's included, since it started or `forget_peak_memory` was called."""
    with contextlib.suppress(OSError, ValueError):
        [line] = [line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM:")]
        return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def held_memory_bytes() -> int:
    """What this process holds now, of the GPU's memory where there is one."""
    import psutil
    import torch

    return torch.cuda.memory_allocated() if torch.cuda.is_available() else psutil.Process().memory_info().rss


def free_memory_bytes() -> int:
    """What the machine could still give, of the GPU's memory where there is one."""
    import psutil
    import torch

    if torch.cuda.is_available():
        return torch.cuda.mem_get_info()[0] + torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
    return psutil.virtual_memory().available
