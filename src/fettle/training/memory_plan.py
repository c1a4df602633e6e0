"""What a training run will hold in memory, worked out before it does, and whether the machine has it.

What is trained takes its weights, their gradients, two moments and the best copy, four bytes each. What a step keeps for its
backward pass grows with the tokens that are run at once: it is counted on a few rows, without a backward pass, and multiplied.

Legend: bytes throughout.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fettle.errors import ResourceError, memory_errors_explained
from fettle.models.load import LoadedModel
from fettle.records import TokenisedExample
from fettle.report_records import TrainingCost
from fettle.training.batches import Batches
from fettle.training.memory import free_memory_bytes, held_memory_bytes
from fettle.training.settings import MOST_TOKENS_AT_ONCE, Checkpointing, Method, TrainingSettings
from fettle.training.shares import shares

if TYPE_CHECKING:
    import torch

_BYTES_A_TRAINED_WEIGHT = 20
"""fp32: the weight itself, its gradient, AdamW's two moments, and the copy of the best step, which not every run keeps."""
_BYTES_OF_A_PROCESS = 450_000_000
"""Python with torch and transformers, before a model is loaded."""
_WORKING_FACTOR = 1.3
"""What a step holds at its peak over what it keeps: gradients on their way back, and gaps between blocks (LOG.md, 2026-11-26)."""
_NUM_WHOLE_LAYERS = 2
"""Of a divided model: the one that computes and, in the backward pass, the one before it."""
_SIZES = tuple(MOST_TOKENS_AT_ONCE // divisor for divisor in (1, 2, 4, 8))
_LEAST_COUNTED_TOKENS = 256
_NUM_WEIGHED_BATCHES = 64
_GIB = 2**30


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryPlan:
    """What one process of a run will hold, and how many there are."""

    held: int
    """By this process already, the base model included."""
    trained: int
    """For what is trained: weights, gradients, moments, the best copy."""
    activations: int
    """What the heaviest step takes: what it keeps for its backward pass, and what that works in."""
    max_tokens: int
    """Bound on the tokens that are run at once."""
    recomputes: bool
    """Whether layers are computed again in the backward pass rather than kept."""
    num_processes: int
    of_a_helper: int
    """What a further process holds before it trains."""
    whole_layers: int = 0
    """Of a divided model: the layer that computes, and the one that is put together meanwhile."""
    is_divided: bool = False
    """The further processes are there already."""
    has_own_memory: bool = False
    """Each process has a GPU to itself; else they take from the same memory."""

    @property
    def peak(self) -> int:
        """Of all processes together."""
        return self.held + (self.num_processes - 1) * self.of_a_helper + self.num_processes * self._of_each

    @property
    def needed(self) -> int:
        """Beside what is held already, of the memory that this process takes from."""
        if self.has_own_memory:
            return self._of_each
        of_helpers = 0 if self.is_divided else (self.num_processes - 1) * self.of_a_helper
        return self.num_processes * self._of_each + of_helpers

    @property
    def _of_each(self) -> int:
        return self.trained + self.activations + self.whole_layers


def plan_memory(
    loaded: LoadedModel,
    rows: Sequence[TokenisedExample],
    settings: TrainingSettings,
    *,
    start_from: Path | None = None,
) -> MemoryPlan:
    """What a run will hold, computed in the fastest way that the memory allows: fewer tokens at once where it is short, and where
    that does not help, layers that are computed again; both as far as the settings leave them open.

    Args:
        loaded: The base model as it is trained. It computes a few rows, and is given back as it was.
        rows: The training examples.
        settings: Of the run.
        start_from: The folder of the adapter that is trained further; None: a fresh one.

    Raises:
        ResourceError: The machine has not that much memory.
    """
    from fettle.training.trainable import trainable

    _require_room_for_weights(loaded, settings)
    held = held_memory_bytes(loaded.model.device)
    chosen = trainable(loaded, settings, start_from=start_from)
    try:
        num_trained = sum(master.numel() for master in chosen.masters.values())

        @cache
        def kept(*, recomputes: bool) -> float:
            return kept_bytes_per_token(loaded, rows, recomputes=recomputes)

        def plan(max_tokens: int, *, recomputes: bool) -> MemoryPlan:
            num_tokens = _heaviest(rows, settings, max_tokens=max_tokens, plainly=loaded.plain_reason is not None)
            return MemoryPlan(
                held=held,
                trained=num_trained * _bytes_a_weight(loaded, settings),
                activations=int(_WORKING_FACTOR * num_tokens * kept(recomputes=recomputes)),
                max_tokens=max_tokens,
                recomputes=recomputes,
                num_processes=settings.processes,
                of_a_helper=_model_bytes(loaded) + _BYTES_OF_A_PROCESS,
                whole_layers=_NUM_WHOLE_LAYERS * loaded.division.layer_bytes if loaded.division is not None else 0,
                is_divided=loaded.division is not None,
                has_own_memory=loaded.model.device.type == "cuda",
            )

        plans = (plan(max_tokens, recomputes=recomputes) for max_tokens, recomputes in _ways(settings))
        found = next(plans)
        while found.needed > free_memory_bytes(loaded.model.device) and (other := next(plans, None)) is not None:
            found = other
    finally:
        chosen.release()
    _require(found.needed, loaded, settings, what="training")
    return found


def chosen_way(
    loaded: LoadedModel,
    rows: Sequence[TokenisedExample],
    settings: TrainingSettings,
    *,
    planned: TrainingCost | None,
    first: TrainingCost | None,
    start_from: Path | None = None,
) -> tuple[int, bool]:
    """The tokens that are run at once, and whether layers are computed again: as planned, else as the memory wants it.

    A run that goes on runs no more at once than when it began, so that it goes on bit for bit.

    Args:
        loaded: The base model as it is trained.
        rows: The training examples.
        settings: Of the run.
        planned: What it is expected to take, where somebody has planned it.
        first: What it was expected to take when it began; None: it begins now.
        start_from: The folder of the adapter that is trained further; None: a fresh one.

    Raises:
        ResourceError: The machine has not that much memory.
    """
    if planned is not None and planned.max_tokens is not None:
        max_tokens, recomputes = planned.max_tokens, planned.recomputes
    else:
        with memory_errors_explained("planning the training"):
            plan = plan_memory(loaded, rows, settings, start_from=start_from)
        max_tokens, recomputes = plan.max_tokens, plan.recomputes
    begun_with = None if first is None or settings.micro_batch_tokens is not None else first.max_tokens
    return min(max_tokens, begun_with or max_tokens), recomputes


def _ways(settings: TrainingSettings) -> Iterator[tuple[int, bool]]:
    """How a step may be computed, the fastest way first: tokens at once, and whether layers are computed again."""
    sizes = _SIZES if settings.micro_batch_tokens is None else (settings.micro_batch_tokens,)
    match settings.checkpointing:
        case Checkpointing.ON:
            choices = [True]
        case Checkpointing.OFF:
            choices = [False]
        case Checkpointing.AUTO:
            choices = [False, True]
    for recomputes in choices:
        for max_tokens in sizes:
            yield max_tokens, recomputes


def kept_bytes_per_token(loaded: LoadedModel, rows: Sequence[TokenisedExample], *, recomputes: bool) -> float:
    """What one token leaves in memory until its backward pass, counted on the first rows. What is trained must be in place.

    Where layers are recomputed, one of them is there as a whole for a moment; that is part of the count.
    """
    some: list[TokenisedExample] = []
    for row in rows:
        some.append(row)
        if sum(len(one.token_ids) for one in some) >= _LEAST_COUNTED_TOKENS:
            break
    kept = _kept_bytes(loaded, some, recomputes=False)
    if recomputes:
        num_layers = int(loaded.model.config.get_text_config().num_hidden_layers)
        kept = kept / num_layers + _kept_bytes(loaded, some, recomputes=True)
    return kept / _num_tokens(loaded, some)


def _kept_bytes(loaded: LoadedModel, rows: Sequence[TokenisedExample], *, recomputes: bool) -> int:
    """Of the graph of some rows' loss, weights left out, each piece of memory counted once."""
    import torch

    from fettle.models.division import held_part
    from fettle.training.accumulate import loss_at_once

    weights = {held_part(weight).untyped_storage().data_ptr() for weight in loaded.model.parameters()}
    shapes = {weight.shape for weight in loaded.model.parameters()}  # gradients: as many as there are weights
    sizes: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights and tensor.shape not in shapes:
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    def give(tensor: Any) -> Any:
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, give):
        loss = loss_at_once(loaded.model, rows, plainly=loaded.plain_reason is not None, recomputes=recomputes)
    assert loss.total.requires_grad, "what is trained is in place"
    return sum(sizes.values())


def _num_tokens(loaded: LoadedModel, rows: Sequence[TokenisedExample]) -> int:
    from fettle.training.accumulate import num_tokens_at_once

    most = sum(len(row.token_ids) for row in rows) * len(rows)  # no bound: they are run in one call
    return num_tokens_at_once(rows, max_tokens=most, plainly=loaded.plain_reason is not None)


def _heaviest(rows: Sequence[TokenisedExample], settings: TrainingSettings, *, max_tokens: int, plainly: bool) -> int:
    """The most tokens that one process runs at once in the first epoch's largest batches."""
    from fettle.training.accumulate import num_tokens_at_once
    from fettle.training.equal_calls import num_tokens_in_equal_calls
    from fettle.training.sft import input_tokens

    def num_tokens(some: Sequence[TokenisedExample]) -> int:
        if settings.shard and not plainly:
            return num_tokens_in_equal_calls(some, max_tokens=max_tokens)
        return num_tokens_at_once(some, max_tokens=max_tokens, plainly=plainly)

    found = Batches(rows, settings.batch_size, settings.seed)
    batches = [found.at(step) for step in range(found.steps_per_epoch)]
    batches.sort(key=lambda batch: sum(len(row.token_ids) for row in batch), reverse=True)
    return max(
        num_tokens([batch[index] for index in share])
        for batch in batches[:_NUM_WEIGHED_BATCHES]
        for share in shares([input_tokens(row) for row in batch], settings.processes)
        if share
    )


def _bytes_a_weight(loaded: LoadedModel, settings: TrainingSettings) -> int:
    """Of a trained weight, beside what the loaded model takes already: weights in fp32 are their own masters."""
    is_own_master = settings.method is Method.FULL and loaded.model.dtype.itemsize == 4
    return _BYTES_A_TRAINED_WEIGHT - 4 if is_own_master else _BYTES_A_TRAINED_WEIGHT


def _model_bytes(loaded: LoadedModel) -> int:
    from fettle.models.nf4 import num_weight_bytes

    return num_weight_bytes(loaded.model)


def _require_room_for_weights(loaded: LoadedModel, settings: TrainingSettings) -> None:
    """Before anything is made: where all weights are trained, the masters of a model in bf16 alone may be too much."""
    if settings.method is Method.FULL:
        num_weights = sum(weight.numel() for weight in loaded.model.parameters())
        needed = settings.processes * num_weights * _bytes_a_weight(loaded, settings)
        _require(needed, loaded, settings, what="training all weights")


def _require(needed: int, loaded: LoadedModel, settings: TrainingSettings, *, what: str) -> None:
    free = free_memory_bytes(loaded.model.device)
    if needed <= free:
        return
    remedies = [
        *(["--method lora or qlora"] if settings.method is Method.FULL else []),
        *(["--method qlora"] if settings.method is Method.LORA else []),
        f"a smaller --micro-batch-tokens ({min(max_tokens for max_tokens, _ in _ways(settings)):,} are too many)",
        *(["fewer --processes"] if settings.processes > 1 else []),
        *(["--checkpointing on"] if settings.checkpointing is Checkpointing.OFF else []),
        "a smaller model, or a machine with more memory",
    ]
    raise ResourceError(
        f"{what} needs about {needed / _GIB:.1f} GiB beside what is held already, and {free / _GIB:.1f} GiB are free",
        remedy=f"use {', '.join(remedies)}",
    )
