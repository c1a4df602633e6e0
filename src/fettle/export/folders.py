"""The two formats that are folders: an adapter as PEFT reads it, a merged model as transformers reads it."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fettle.errors import IntegrityError, ModelError
from fettle.export.compare import MOST_DIFFERENCE, Difference, difference, row_logits
from fettle.export.merge import MergedModel
from fettle.export.settings import WeightType
from fettle.models.load import write_model
from fettle.models.resolve import ResolvedModel, WeightsKind

if TYPE_CHECKING:
    import torch

ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
_TYPE_OF_SAFETENSORS = {"BF16": WeightType.BF16, "F16": WeightType.F16}


def write_adapter(source: Path, tokenizer: Any, folder: Path) -> None:
    """Copy an adapter, with the tokenizer and the chat template it was trained with.

    Raises:
        IntegrityError: What was written is not what was read.
    """
    tokenizer.save_pretrained(folder)
    for name in ADAPTER_FILES:
        shutil.copyfile(source / name, folder / name)
        if (source / name).read_bytes() != (folder / name).read_bytes():
            raise IntegrityError(
                f"{name} was not copied whole", where=str(folder), remedy="check the disk, and try again"
            )


def stored_type(base: ResolvedModel) -> WeightType:
    """What a base model's weights are stored as; F32 where they are quantised, for only fp32 holds their values exactly."""
    from safetensors import safe_open

    if base.kind is WeightsKind.GGUF:
        return WeightType.F32
    counts: Counter[str] = Counter()
    for file in base.weight_files:
        with safe_open(file, framework="np") as tensors:
            counts.update(tensors.get_slice(name).get_dtype() for name in tensors.keys())  # noqa: SIM118 (no dict)
    return _TYPE_OF_SAFETENSORS.get(counts.most_common(1)[0][0], WeightType.F32)


def merged_bytes(merged: MergedModel, weight_type: WeightType) -> int:
    """About the size of a merged model on disk."""
    return sum(weight.numel() for weight in merged.model.parameters()) * _dtype(weight_type).itemsize


def write_merged(merged: MergedModel, folder: Path, weight_type: WeightType) -> Difference:
    """Write a merged model with its tokenizer, chat template and stop tokens, and read it back; how its answers differ.

    The model in memory is rounded to the type.

    Raises:
        ModelError: A weight does not fit into the type.
        IntegrityError: The folder does not hold the model, or answers too differently.
    """
    model = merged.model
    model.to(_dtype(weight_type))  # pyright: ignore[reportArgumentType] (a dtype is accepted)
    for name, weight in model.state_dict().items():
        if not bool(weight.isfinite().all()):
            raise ModelError(
                f"values of {name} do not fit into {weight_type}", where="--type", remedy="choose --type bf16"
            )
    generation = model.generation_config
    if generation is not None:
        generation.eos_token_id = _one_or_many(sorted(merged.loaded.stop_token_ids))
    write_model(model, merged.tokenizer, folder)
    return _check_merged(merged, folder, weight_type)


def _check_merged(merged: MergedModel, folder: Path, weight_type: WeightType) -> Difference:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    if (
        tokenizer.chat_template != merged.tokenizer.chat_template
        or tokenizer.get_vocab() != merged.tokenizer.get_vocab()
    ):
        raise _wrong(folder, "its tokenizer or chat template is not the model's")
    again = AutoModelForCausalLM.from_pretrained(
        str(folder), dtype=torch.float32, local_files_only=True, use_safetensors=True, trust_remote_code=False
    ).eval()
    found = again.state_dict()
    for name, weight in merged.model.state_dict().items():
        if name not in found or not torch.equal(found[name].cpu(), weight.float().cpu()):
            raise _wrong(folder, f"{name} is not what was written")
    measured = difference(merged.logits, row_logits(again, merged.rows))
    if not measured.relative < MOST_DIFFERENCE[weight_type]:
        raise _wrong(folder, f"as {weight_type} its logits differ by {measured.relative:.1%} of their spread")
    return measured


def _dtype(weight_type: WeightType) -> torch.dtype:
    import torch

    return {WeightType.F32: torch.float32, WeightType.F16: torch.float16, WeightType.BF16: torch.bfloat16}[weight_type]


def _one_or_many(numbers: Sequence[int]) -> int | list[int]:
    return numbers[0] if len(numbers) == 1 else list(numbers)


def _wrong(folder: Path, problem: str) -> IntegrityError:
    return IntegrityError(
        f"the merged model was read back and is wrong ({problem}); it was deleted",
        where=str(folder),
        remedy="try --type f32, and report this",
    )
