"""A base model divided among the processes of a run, for models that do not fit one GPU.

Of each decoder layer a process holds an equal part of every matrix (FSDP2, `torch.distributed.fsdp.fully_shard`); the whole layer
is there while it computes, forward or backward. Norms, biases, embedding and head are whole in every process, and so is what is
trained beside the model. A process reads its own parts from the files and nothing else: no process ever holds the model whole.

To compute takes all processes at once, in the same order. Where one computes alone (it answers, or plans), the others lend it their
parts: it says which layer it is about to run, and they help to put that one together.

Frozen models alone: gradients of divided weights are never formed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import distributed

if TYPE_CHECKING:
    from transformers import PreTrainedModel

TRAIN, END = -1, -2
"""What the first process says instead of a layer's number: take part in a training; nothing more will come."""


class Division:
    """The part of a divided model that this process holds, and how it is lent.

    The processes belong to one group already (`torch.distributed`), and all of them make one of these and load the model with it.

    Args:
        rank: The number of this process.
        size: How many there are.
    """

    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size = rank, size
        self._layers: tuple[Any, ...] = ()
        self._borrows = False
        """This process computes alone, forward, and the others lend."""

    def divide(self, model: PreTrainedModel) -> None:
        """Divide the decoder layers of a model without weights (on the device `meta`)."""
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard
        from torch.distributed.tensor import DTensor

        from fettle.models.device import chosen_device

        mesh = init_device_mesh(chosen_device().type, (self.size,))
        self._layers = tuple(decoder_layers(model))
        for layer in self._layers:
            fully_shard(layer, mesh=mesh, ignored_params={weight for weight in layer.parameters() if weight.ndim < 2})
        # Only as the root of the layers: nothing else of it is divided.
        whole = {weight for weight in model.parameters() if not isinstance(weight, DTensor)}
        fully_shard(model.base_model, mesh=mesh, ignored_params=whole)
        for number, layer in enumerate(self._layers):
            # Named, or FSDP guesses by the order of all calls since the last backward pass, in which the processes may differ. The
            # first layer has none before it; it names itself, which is there already.
            layer.set_modules_to_backward_prefetch([self._layers[max(0, number - 1)]])
            layer.register_forward_pre_hook(partial(self._ask, number), prepend=True)

    @property
    def layer_bytes(self) -> int:
        """The largest layer, whole: what is there beside the parts while it computes."""
        from torch.distributed.tensor import DTensor

        return max(
            sum(weight.numel() * weight.element_size() for weight in layer.parameters() if isinstance(weight, DTensor))
            for layer in self._layers
        )

    def lend(self) -> int:
        """Lend this process's parts, until the first process says something else: TRAIN or END."""
        while True:
            said = torch.zeros(1, dtype=torch.long)
            distributed.broadcast(said, src=0)
            number = int(said)
            if number < 0:
                return number
            self._layers[number].unshard()
            self._layers[number].reshard()

    def say(self, number: int) -> None:
        """Tell those that lend what is wanted: a layer's number, TRAIN or END."""
        distributed.broadcast(torch.tensor([number]), src=0)

    def in_use(self) -> AbstractContextManager[None]:
        """Within it the model computes; the first process lets the others go at its end."""
        return nullcontext()

    def close(self) -> None:
        """Nothing more will be computed with the model: the first process lets the others go."""

    def _ask(self, number: int, *_args: Any) -> None:
        if self._borrows:
            self.say(number)


def decoder_layers(model: PreTrainedModel) -> Iterator[torch.nn.Module]:
    """The decoder layers of a model, in their order."""
    from transformers.modeling_layers import GradientCheckpointingLayer

    return (module for module in model.modules() if isinstance(module, GradientCheckpointingLayer))


def held_part(weight: torch.Tensor) -> torch.Tensor:
    """What this process holds of a weight: all of it, unless it is divided."""
    from torch.distributed.tensor import DTensor

    return weight.to_local() if isinstance(weight, DTensor) else weight
