"""The memory that this process holds, the most that it has held, and what is left: the machine's, or that of a GPU."""

from __future__ import annotations

import contextlib
import resource
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_CLEAR = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")
_RESET_PEAK = "5"


def forget_peak_memory(device: torch.device | None = None) -> None:
    """Let `peak_memory_bytes` count from now on. Of the machine's memory, Linux alone can; elsewhere it is that of the process.

    Source: `clear_refs` in proc_pid_clear_refs(5).
    """
    if device is not None and device.type == "cuda":
        import torch

        torch.cuda.reset_peak_memory_stats(device)
        return
    with contextlib.suppress(OSError):
        _CLEAR.write_text(_RESET_PEAK)


def peak_memory_bytes(device: torch.device | None = None) -> int:
    """The most memory this process has held, the model's included, since it started or `forget_peak_memory` was called.

    Where `device` is a CUDA GPU, the most that tensors took there.
    """
    if device is not None and device.type == "cuda":
        import torch

        return torch.cuda.max_memory_allocated(device)
    with contextlib.suppress(OSError, ValueError):
        [line] = [line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM:")]
        return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def held_memory_bytes(device: torch.device) -> int:
    """What this process holds now of the memory that models on `device` lie in."""
    import psutil
    import torch

    return torch.cuda.memory_allocated(device) if device.type == "cuda" else psutil.Process().memory_info().rss


def free_memory_bytes(device: torch.device) -> int:
    """What is left of the memory that models on `device` lie in."""
    import psutil
    import torch

    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + kept
    return psutil.virtual_memory().available
