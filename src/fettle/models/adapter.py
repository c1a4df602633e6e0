"""LoRA adapters in PEFT's format: made, saved, loaded, and shown to be active."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fettle.errors import IntegrityError, ModelError, disk_errors_explained, require_range
from fettle.models.load import LoadedModel

if TYPE_CHECKING:
    import torch
    from peft import PeftModel


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraSettings:
    """The shape of a LoRA adapter (Hu et al. 2021)."""

    rank: int = 16
    """Rank of each update, >= 1."""
    alpha: int = 32
    """Scale of the update: it is multiplied by alpha / rank."""

    def __post_init__(self) -> None:
        """Refuse what no adapter can be made of.

        Raises:
            ConfigError: A value is out of its range.
        """
        require_range("rank", self.rank, low=1)
        require_range("alpha", self.alpha, low=1)


def new_adapter(loaded: LoadedModel, settings: LoraSettings, *, seed: int, name: str) -> PeftModel:
    """The model with a fresh adapter on all linear layers but the head; its update starts at exactly zero.

    The base weights of `loaded` are shared, not copied. Adapter weights are fp32 whatever the precision of the base.
    """
    import torch
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=0.0,
        target_modules="all-linear",
        base_model_name_or_path=loaded.source.public_id,
    )
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # PEFT wants the path of this machine for a name; see below
        warnings.simplefilter("ignore", FutureWarning)  # PEFT reads a property of transformers by its older name
        torch.manual_seed(seed)
        model = get_peft_model(loaded.model, config, adapter_name=name)
    model.peft_config[name].base_model_name_or_path = loaded.source.public_id
    return model  # pyright: ignore[reportReturnType] (a mixed model only when asked for)


def save_adapter(model: PeftModel, folder: Path, *, name: str) -> None:
    """Write the adapter as a PEFT folder that any PEFT user can load."""
    with disk_errors_explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        model.save_pretrained(str(folder), selected_adapters=[name], safe_serialization=True)
        if (nested := folder / name).is_dir():  # PEFT puts every adapter not called "default" one folder down
            for file in nested.iterdir():
                file.replace(folder / file.name)
            nested.rmdir()


def load_adapter(loaded: LoadedModel, folder: Path, *, name: str) -> PeftModel:
    """The model with an adapter from a PEFT folder, frozen.

    Raises:
        ModelError: The folder holds no adapter, or one for another model.
    """
    from peft import PeftModel

    if not (folder / "adapter_config.json").is_file():
        raise ModelError(
            "this folder holds no adapter_config.json", where=str(folder), remedy="name a PEFT adapter folder"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # as above
            model = PeftModel.from_pretrained(loaded.model, str(folder), adapter_name=name, is_trainable=False)
    except (RuntimeError, ValueError, KeyError) as error:
        raise ModelError(
            f"the adapter does not fit the model {loaded.source.public_id} ({str(error).splitlines()[0]})",
            where=str(folder),
            remedy="use the base model it was trained on",
        ) from error
    model.eval()
    return model


def unload_adapters(model: PeftModel) -> None:
    """Take every adapter out of the base model again; its weights were never touched."""
    model.unload()


def require_active(base_logits: torch.Tensor, tuned_logits: torch.Tensor, *, adapter: str) -> float:
    """Show that an adapter changes what the model says.

    Args:
        base_logits: First-token logits without the adapter [B, V].
        tuned_logits: The same with it [B, V].
        adapter: Its name, for the message.

    Returns:
        The largest absolute difference, in logits.

    Raises:
        IntegrityError: They are equal: the adapter is not loaded, not selected, or empty.
    """
    largest = float((base_logits.float() - tuned_logits.float()).abs().max())
    if not largest > 0.0:
        raise IntegrityError(
            f"the adapter {adapter!r} is inactive: with and without it the model gives the same logits, so the study would "
            "compare the base model with itself",
            remedy="run again with --fresh to train again; if this repeats, report it",
        )
    return largest
