"""Activation checkpointing: what a decoder layer keeps for its backward pass is dropped and computed again there.

Of a layer only its input stays (Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost"). Exact: the same layer is run on
the same input again, and nothing here is drawn at random.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from fettle.models.replaced_forwards import Forward, replaced_forwards

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def recomputed_layers(model: PreTrainedModel, *, wanted: bool = True) -> AbstractContextManager[None]:
    """Within it, backward passes included, the decoder layers of a model run that way, where they are wanted to."""
    return replaced_forwards(model, _recomputed) if wanted else nullcontext()


def _recomputed(module: torch.nn.Module) -> Forward | None:
    return partial(_run, module.forward) if isinstance(module, GradientCheckpointingLayer) else None


def _run(forward: Forward, *args: Any, **kwargs: Any) -> torch.Tensor:
    if not torch.is_grad_enabled():
        return forward(*args, **kwargs)
    return checkpoint(forward, *args, use_reentrant=False, preserve_rng_state=False, **kwargs)  # pyright: ignore[reportReturnType]
