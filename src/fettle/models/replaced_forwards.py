"""Forwards of single modules replaced for a while: nothing is patched but the instances, and they are given back as they were."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Forward = Callable[..., torch.Tensor]


@contextmanager
def replaced_forwards(model: PreTrainedModel, forward_of: Callable[[Any], Forward | None]) -> Iterator[None]:
    """Within it some modules of a model run another forward; afterwards as before.

    Args:
        model: The model.
        forward_of: The forward that a module gets; None leaves it alone, as a module that has one of its own is in any case.
    """
    replaced = []
    try:
        for module in model.modules():
            if "forward" not in vars(module) and (forward := forward_of(module)) is not None:
                module.forward = forward
                replaced.append(module)
        yield
    finally:
        for module in replaced:
            vars(module).pop("forward", None)
