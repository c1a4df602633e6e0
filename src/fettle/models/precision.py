"""In which number format the base model computes, and what this machine does faster."""

from __future__ import annotations

import json
import platform
import time
from contextlib import suppress
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from fettle.files import sha256_of_json, write_atomically
from fettle.models.device import chosen_device
from fettle.settings import get_settings

if TYPE_CHECKING:
    import torch

_LEAST_SPEEDUP = 1.3
"""bf16 costs some quality, so it has to bring at least this."""
_ROWS, _INPUTS, _OUTPUTS = 64, 576, 1536  # a layer of the embedded model
_ROUNDS = 60


class Precision(StrEnum):
    """In which number format the base model computes. Adapters are kept in fp32 either way."""

    AUTO = "auto"
    EXACT = "exact"
    """fp32 throughout."""
    FAST = "fast"
    """bf16 weights and activations."""


class BaseWeights(StrEnum):
    """In which form the weights of a base model's linear layers are held; what is computed with them has the model's precision."""

    AS_GIVEN = "as given"
    """As numbers of that precision."""
    NF4 = "nf4"
    """In 4 bits a weight, frozen (`fettle.models.nf4`)."""


def choose_precision(asked: Precision) -> Precision:
    """What AUTO means on this machine: FAST where bf16 products are clearly faster than those in fp32, else EXACT.

    What a processor claims does not tell: with AVX-512 BF16 alone, some are 2.2 times as fast in bf16, others 0.6 times. So it is
    measured, unless an earlier study kept the figure (`keep_choice`).
    """
    if asked is not Precision.AUTO:
        return asked
    import torch

    match chosen_device().type:
        case "cuda":  # older ones emulate it
            return Precision.FAST if torch.cuda.is_bf16_supported(including_emulation=False) else Precision.EXACT
        case "mps":
            return Precision.EXACT
    if not _claims_bf16():
        return Precision.EXACT
    return Precision.FAST if bf16_speedup(get_settings().home) >= _LEAST_SPEEDUP else Precision.EXACT


def keep_choice(home: Path) -> None:
    """Keep what AUTO was decided by under FETTLE_HOME, so that a study that goes on decides as it did before.

    Raises:
        ConfigError: The folder cannot be written.
    """
    import torch

    file = _file(home)
    if chosen_device().type != "cpu" or not _claims_bf16() or file.is_file():
        return
    content = {"bf16_speedup": bf16_speedup(home), "processor": _processor(), "torch": torch.__version__}
    write_atomically(file, json.dumps(content, indent=2) + "\n")


def bf16_speedup(home: Path) -> float:
    """How many times as fast as in fp32 this processor multiplies in bf16: as kept in `home`, else measured."""
    with suppress(OSError, ValueError, KeyError, TypeError):  # not there yet, or damaged
        return float(json.loads(_file(home).read_text())["bf16_speedup"])
    return _measured_speedup()


def _claims_bf16() -> bool:
    """Without it, bf16 products are emulated. The only probe is torch's own, underscored."""
    import torch

    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def _file(home: Path) -> Path:
    import torch

    return home / "machines" / f"{sha256_of_json([_processor(), torch.__version__])[:16]}.json"


@lru_cache(maxsize=1)
def _measured_speedup() -> float:
    """The ratio of the best of many rounds on one thread.

    A round takes about a millisecond, less than a thread is left alone on a busy processor, so that the best ones are undisturbed.
    """
    import torch

    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return round(_best_ratio(), 2)
    finally:
        torch.set_num_threads(num_threads)


def _best_ratio() -> float:
    import torch

    seconds: dict[torch.dtype, list[float]] = {torch.float32: [], torch.bfloat16: []}
    operands = {
        dtype: (torch.ones(_ROWS, _INPUTS, dtype=dtype), torch.ones(_OUTPUTS, _INPUTS, dtype=dtype))
        for dtype in seconds
    }
    for _ in range(_ROUNDS):
        for dtype, (x_NI, weight_OI) in operands.items():
            started = time.perf_counter()
            torch.nn.functional.linear(x_NI, weight_OI)
            seconds[dtype].append(time.perf_counter() - started)
    return min(seconds[torch.float32]) / min(seconds[torch.bfloat16])


@lru_cache(maxsize=1)
def _processor() -> str:
    """Its name and, on Linux, a hash of what it can do: cloud machines hide the model."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    found = dict(line.split(":", 1) for line in reversed(lines) if ":" in line)
    facts = {name.strip(): value.strip() for name, value in found.items()}
    name = facts.get("model name", platform.processor())
    return f"{name} {sha256_of_json([facts.get(key) for key in ('model', 'stepping', 'flags')])[:8]}"
