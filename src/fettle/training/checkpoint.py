"""Everything a training run needs to go on after a kill, in one record and one folder; safetensors and JSON, never a pickle."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fettle.errors import disk_errors_explained
from fettle.files import write_atomically
from fettle.training.events import EventStream

if TYPE_CHECKING:
    import torch

_STATE, _TENSORS = "state.json", "tensors.safetensors"


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where a run stands, its tensors apart."""

    run_key: str
    """Hash of the data, the model and the settings: a checkpoint of another run is never continued."""
    step: int = 0
    """Optimiser steps done."""
    num_events: int | None = None
    """What had been logged when the checkpoint was written; None: an older version wrote it, after all events of its step."""
    best_step: int = 0
    """The step whose weights are kept: the one after which the validation loss was lowest, that before training left out (0: none
    was measured yet); at the end of a run that keeps its last step, that one."""
    best_valid_loss: float | None = None
    evals_since_best: int = 0
    stopped_early: bool = False
    peak_memory_bytes: int = 0
    """The most that the process held while it trained."""
    is_finished: bool = False


def save_checkpoint(folder: Path, progress: Progress, tensors: Mapping[str, torch.Tensor]) -> None:
    """Write a checkpoint and drop all others but the one before it; a kill leaves one whole checkpoint at least.

    Raises:
        DiskFullError: No space is left; the last checkpoint stays.
    """
    from safetensors.torch import save_file

    # The last step is saved twice, the second time as finished: beside the first one, which a kill in between must not cost.
    name = f"step-{progress.step:07d}{'-finished' if progress.is_finished else ''}"
    final, temporary = folder / name, folder / f".{name}"
    with disk_errors_explained(folder):
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, temporary / _TENSORS)
        write_atomically(temporary / _STATE, json.dumps(asdict(progress)))
        if final.exists():
            shutil.rmtree(final)
        temporary.rename(final)
    # Later ones are damaged or of another run, or this one would not have been reached.
    earlier = [checkpoint for checkpoint in _checkpoints(folder) if checkpoint < final]
    for checkpoint in {*_checkpoints(folder), *folder.glob(".step-*")} - {final, *earlier[-1:]}:
        shutil.rmtree(checkpoint, ignore_errors=True)


def load_checkpoint(folder: Path, run_key: str) -> tuple[Progress, dict[str, torch.Tensor]] | None:
    """The newest whole checkpoint of this run; None: there is none, so the run begins at the beginning."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    for candidate in reversed(_checkpoints(folder)):
        try:
            progress = Progress(**json.loads((candidate / _STATE).read_text()))
            tensors = load_file(candidate / _TENSORS)
        except (OSError, ValueError, TypeError, SafetensorError):
            continue  # cut by a kill or damaged: the one before it is whole
        if progress.run_key == run_key:
            return progress, tensors
    return None


def logged_before(stream: EventStream, progress: Progress) -> EventStream:
    """The events that a checkpoint of a run comes after. What follows it is done again, and so are its events."""
    if progress.is_finished:
        return stream
    if progress.num_events is None:
        return stream.up_to(progress.step)
    return stream.first(progress.num_events)


def _checkpoints(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*")) if folder.is_dir() else []
