"""A divided model from its files: made without weights, cut, and then filled, each process reading its own parts.

Files hold tensors by the names that the model's class gives them. Those of some older models, and of mixtures of experts, have
other names, which transformers translates while it loads; these cannot be divided.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from fettle.chat.renderer import ChatRenderer
from fettle.errors import ModelError
from fettle.models.device import chosen_device
from fettle.models.division import Division, decoder_layers
from fettle.models.load import (
    WORKING_MEMORY_FACTOR,
    LoadedModel,
    converted_folder,
    load_errors_explained,
    load_tokenizer,
    refuse_other_quantisation,
    require_memory_for,
)
from fettle.models.precision import BaseWeights, Precision, choose_precision
from fettle.models.resolve import ResolvedModel, WeightsKind

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def load_divided(source: ResolvedModel, precision: Precision, division: Division) -> LoadedModel:
    """Load this process's part of a model, together with all others of its group.

    Raises:
        ModelError: The files are damaged, hold quantised weights or other names than the model's class, or the class has no decoder
            layers to divide.
        ResourceError: The part does not fit into memory.
    """
    from fettle.models.nf4 import import_bitsandbytes
    from fettle.models.understood import why_not_understood

    import_bitsandbytes()  # as `load_model` does
    refuse_other_quantisation(source, BaseWeights.AS_GIVEN)
    device, chosen = chosen_device(), choose_precision(precision)
    tokenizer = load_tokenizer(source)
    folder = source.path if source.kind is WeightsKind.FOLDER else converted_folder(source)
    with load_errors_explained(source):
        model = _empty_model(folder, torch.bfloat16 if chosen is Precision.FAST else torch.float32)
        num_sharing = 1 if device.type == "cuda" else division.size  # a GPU each, or one memory for all
        require_memory_for(WORKING_MEMORY_FACTOR * num_sharing * divided_bytes(model, division.size), source)
        model.requires_grad_(requires_grad=False)
        division.divide(model)
        _fill(model, folder, division, device)
    model.eval()
    return LoadedModel(
        source=source,
        model=model,
        renderer=ChatRenderer(tokenizer),
        precision=chosen,
        plain_reason=why_not_understood(model),
        division=division,
    )


def divided_bytes(model: PreTrainedModel, size: int) -> int:
    """What one of `size` processes holds of a model, the one layer that is whole at a time included."""
    layers = [
        sum(weight.numel() * weight.element_size() for weight in layer.parameters()) for layer in decoder_layers(model)
    ]
    total = sum(weight.numel() * weight.element_size() for weight in model.parameters())
    return total - sum(layers) + sum(layers) // size + max(layers, default=0)


def _empty_model(folder: Path, dtype: torch.dtype) -> PreTrainedModel:
    """The model of a folder without its weights, which are on the device `meta`; its buffers are real."""
    from accelerate import init_empty_weights
    from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig
    from transformers.utils import logging

    logging.set_verbosity_error()

    config = AutoConfig.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    with init_empty_weights(include_buffers=False):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype, trust_remote_code=False)
    model.tie_weights()
    if (folder / "generation_config.json").is_file():
        model.generation_config = GenerationConfig.from_pretrained(str(folder), local_files_only=True)
    if not any(True for _ in decoder_layers(model)):
        raise ModelError(
            f"{type(model).__name__} has no decoder layers that transformers could run apart, so it cannot be divided",
            where=str(folder),
            remedy="leave out --shard, or use a model of a newer class, such as Llama, Qwen or Mistral",
        )
    return model


def _fill(model: PreTrainedModel, folder: Path, division: Division, device: torch.device) -> None:
    """Give a divided model without weights those of its files, each process its own parts.

    Raises:
        ValueError: The files lack a tensor, or hold one of another shape.
    """
    from safetensors import safe_open

    model._apply(lambda tensor: torch.empty_like(tensor, device=device) if tensor.is_meta else tensor.to(device))
    model.tie_weights()  # every module has been given memory of its own
    wanted = dict(model.named_parameters())
    with torch.no_grad():
        for file in sorted(folder.glob("*.safetensors")):
            with safe_open(file, framework="pt") as tensors:
                for name in tensors.keys() & wanted.keys():
                    _fill_one(wanted.pop(name), tensors.get_slice(name), name, division)
    if wanted:
        raise ValueError(
            f"{len(wanted)} tensors are not in the files by the names of the model's class, the first is {min(wanted)}"
        )


def _fill_one(weight: torch.Tensor, stored: Any, name: str, division: Division) -> None:
    from torch.distributed.tensor import DTensor

    if list(weight.shape) != list(stored.get_shape()):
        raise ValueError(f"{name} has shape {stored.get_shape()} in the files, not {list(weight.shape)}")
    if not isinstance(weight, DTensor):
        weight.copy_(stored[:])
        return
    part = weight.to_local()
    num_rows = math.ceil(len(weight) / division.size)  # as FSDP cuts: all but the last parts are equal
    start = min(division.rank * num_rows, len(weight))
    assert len(part) == max(0, min(num_rows, len(weight) - start)), "FSDP cuts by rows"
    if len(part):
        part.copy_(stored[start : start + len(part)])
