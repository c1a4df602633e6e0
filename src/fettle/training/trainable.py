"""What a run trains: a LoRA adapter on a frozen model, or all of the model's weights; to the loop both are fp32 masters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch

from fettle.errors import ConfigError, IntegrityError
from fettle.models.adapter import continued_adapter, new_adapter, save_adapter, unload_adapters
from fettle.models.load import LoadedModel, reload_weights, require_form, save_model
from fettle.training.settings import Method, TrainingSettings

if TYPE_CHECKING:
    from torch.nn import Parameter

_ADAPTER_NAME = "tuned"


class Trainable(Protocol):
    """Weights that a run changes, and what is done with them at its end."""

    @property
    def masters(self) -> Mapping[str, Parameter]:
        """What the optimiser steps on, fp32; a backward pass adds to its gradients, which are zeroed before, never dropped."""
        ...

    def stepped(self) -> None:
        """The masters have changed: the model must compute with the new values."""
        ...

    def place(self, folder: Path) -> Path:
        """Where what was trained lies in a run's folder."""
        ...

    def save(self, place: Path) -> None:
        """Write what was trained as a folder that can be used by itself."""
        ...

    def release(self) -> None:
        """Give the base model back as it was."""
        ...


def trainable(loaded: LoadedModel, settings: TrainingSettings, *, start_from: Path | None = None) -> Trainable:
    """What these settings train. From now on the model computes with it, until it is released.

    Args:
        loaded: The base model.
        settings: Of the run.
        start_from: The folder of an adapter that is trained further, in the shape it has; None: a fresh one.

    Raises:
        IntegrityError: An adapter is on the model already, or its weights are not held as the method wants them.
        ModelError: The folder holds no adapter for this model.
        ConfigError: All weights are to be trained, and an adapter is to be trained further.
    """
    if start_from is not None and not settings.method.trains_adapter:
        raise ConfigError(
            "an adapter cannot be trained further where all weights are trained",
            where=str(start_from),
            remedy="train an adapter, or export the tuned model as merged weights and train that",
        )
    if loaded.base_weights is not settings.method.base_weights:
        raise IntegrityError(
            f"--method {settings.method.value} trains beside weights held {settings.method.base_weights.value}, and these are "
            f"held {loaded.base_weights.value}",
            where=loaded.name,
            remedy="load the model in the form that the method wants (`fettle.training.base.base_of`)",
        )
    require_form(loaded)
    return WholeModel(loaded) if settings.method is Method.FULL else Adapter(loaded, settings, start_from)


class Adapter:
    """A LoRA adapter, fp32; a fresh one starts with no effect.

    Its weights lie in one tensor and so do their gradients, of which PEFT's parameters are views: the optimiser has one parameter
    to step on instead of hundreds of small ones.
    """

    def __init__(self, loaded: LoadedModel, settings: TrainingSettings, start_from: Path | None) -> None:
        self._model = loaded.model
        if start_from is None:
            self._peft = new_adapter(loaded, settings.lora, seed=settings.seed, name=_ADAPTER_NAME)
        else:
            self._peft = continued_adapter(loaded, start_from, name=_ADAPTER_NAME)
        trained = [parameter for parameter in self._peft.parameters() if parameter.requires_grad]
        self.masters = {"adapter": _joined(trained)}

    def stepped(self) -> None:
        """The adapter's layers read the masters themselves."""

    def place(self, folder: Path) -> Path:
        """A PEFT folder `adapter`."""
        return folder / "adapter"

    def save(self, place: Path) -> None:
        """Write it."""
        save_adapter(self._peft, place, name=_ADAPTER_NAME)

    def release(self) -> None:
        """Take the adapter off; the base weights were never touched."""
        unload_adapters(self._peft)
        self._model.requires_grad_(requires_grad=False)
        self._model.eval()


class WholeModel:
    """All weights of the model; tied ones once.

    A model in bf16 has masters beside it: its own weights have too few digits for small steps. Gradients then gather in the masters
    and the model's own are dropped as soon as they are there.
    """

    def __init__(self, loaded: LoadedModel) -> None:
        self._loaded = loaded
        self._has_changed = False
        model = loaded.model.requires_grad_(requires_grad=True)
        self._weights = dict(model.named_parameters())
        self.masters = {name: _master(weight) for name, weight in self._weights.items()}
        self._hooks = [
            weight.register_post_accumulate_grad_hook(partial(_move_gradient, master=self.masters[name]))
            for name, weight in self._weights.items()
            if self.masters[name] is not weight
        ]

    def stepped(self) -> None:
        """Round the masters to what the model computes with."""
        self._has_changed = True
        with torch.no_grad():
            for name, weight in self._weights.items():
                if self.masters[name] is not weight:
                    weight.copy_(self.masters[name])

    def place(self, folder: Path) -> Path:
        """A folder `model` in Hugging Face format, with the tokenizer."""
        return folder / "model"

    def save(self, place: Path) -> None:
        """Write it."""
        save_model(self._loaded, place)

    def release(self) -> None:
        """Read the weights from the files again, if they have changed."""
        for hook in self._hooks:
            hook.remove()
        self._loaded.model.requires_grad_(requires_grad=False)
        self._loaded.model.zero_grad(set_to_none=True)
        if self._has_changed:
            reload_weights(self._loaded)
        self._loaded.model.eval()


def _joined(parameters: Sequence[Parameter]) -> Parameter:
    """One parameter, with room for its gradient, that the given ones become views of."""
    whole = torch.nn.Parameter(torch.cat([parameter.detach().flatten() for parameter in parameters]))
    whole.grad = torch.zeros_like(whole)
    sizes = [parameter.numel() for parameter in parameters]
    for parameter, values, gradient in zip(parameters, whole.data.split(sizes), whole.grad.split(sizes), strict=True):
        parameter.data, parameter.grad = values.view(parameter.shape), gradient.view(parameter.shape)
    return whole


def _master(weight: Parameter) -> Parameter:
    return weight if weight.dtype is torch.float32 else torch.nn.Parameter(weight.detach().float())


def _move_gradient(weight: torch.Tensor, *, master: Parameter) -> None:
    assert weight.grad is not None, "it has just been accumulated"
    if master.grad is None:
        master.grad = weight.grad.float()
    else:
        master.grad.add_(weight.grad)
    weight.grad = None
