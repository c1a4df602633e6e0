"""Adapters with an effect on tiny models, and settings to export them with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fettle.export.run import Exported, export
from fettle.export.settings import ExportFormat, ExportSettings, WeightType
from fettle.models.adapter import LoraSettings, LoraVariant, new_adapter, save_adapter, unload_adapters
from tiny_models import load_tiny_model


def save_tuned_adapter(
    model: Path, folder: Path, variant: LoraVariant = LoraVariant.LORA, *, size: float = 0.1
) -> Path:
    """An adapter on a model whose updates are drawn at random; the folder."""
    import torch

    loaded = load_tiny_model(model)
    peft: Any = new_adapter(loaded, LoraSettings.of_rank(4, variant), seed=0, name="tuned")
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in peft.named_parameters():
            if "lora_B" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * size)
            elif "lora_magnitude" in name:
                parameter.mul_(1 + 0.1 * torch.rand(parameter.shape, generator=generator))
    save_adapter(peft, folder, name="tuned")
    unload_adapters(peft)
    return folder


def exported(
    source: Path, out: Path, format_: ExportFormat, weight_type: WeightType | None = None, *, model: Path | None = None
) -> Exported:
    named = None if model is None else str(model)
    return export(ExportSettings(source=source, format=format_, out=out, weight_type=weight_type, model=named))


def adapter_logits(model: Path, adapter: Path, ids: list[int], *, is_exact: bool = False) -> Any:
    """What PEFT itself gives for a row [T, V], loaded as any user of PEFT does; `is_exact`: computed in float64."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(str(model), dtype=torch.float32)
    tuned = PeftModel.from_pretrained(base, str(adapter))
    if is_exact:
        tuned = tuned.double()
    with torch.no_grad():
        return tuned(torch.tensor([ids])).logits[0]


def folder_logits(folder: Path, ids: list[int]) -> Any:
    """What transformers gives for a row [T, V] of a model's folder, computed in fp32."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(str(folder), dtype=torch.float32)
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0]
