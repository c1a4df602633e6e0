"""Adapters of tiny models that change what they say, without any training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from fettle.models.adapter import LoraSettings, LoraVariant, new_adapter, save_adapter, unload_adapters


def write_adapter(
    loaded: Any, folder: Path, *, seed: int, variant: LoraVariant = LoraVariant.LORA, rank: int = 4
) -> Path:
    """Write a random adapter of a model; its folder."""
    peft = new_adapter(loaded, LoraSettings(rank=rank, variant=variant), seed=seed, name="made")
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in peft.named_parameters():
            if "lora_B" in name:
                weight.copy_(torch.randn(weight.shape, generator=generator) * 0.2)
    save_adapter(peft, folder, name="made")
    unload_adapters(peft)
    return folder
