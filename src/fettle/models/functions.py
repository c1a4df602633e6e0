"""Functions with their backward written out, called with or without it."""

from __future__ import annotations

from typing import Any

import torch


class _NoBackward:
    """The context of a function whose gradient nobody wants: it keeps nothing."""

    needs_input_grad = ()

    def save_for_backward(self, *_tensors: Any) -> None:
        """Keep nothing."""


def call(function: type[torch.autograd.Function], *arguments: Any) -> Any:
    """What `function.apply` gives. Where gradients are off, without what autograd does for each call: in small steps it is most."""
    if torch.is_grad_enabled():
        return function.apply(*arguments)
    return function.forward(_NoBackward(), *arguments)
