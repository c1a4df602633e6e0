"""LoRA adapters in PEFT's format: made, saved, loaded, and shown to be active."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from fettle.errors import ModelError, WrongModelError, disk_errors_explained, require_range
from fettle.models.load import LoadedModel

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from transformers import PreTrainedModel


class LoraVariant(StrEnum):
    """How an update is scaled and composed; each as PEFT defines it."""

    LORA = "lora"
    """Multiplied by alpha / rank (Hu et al. 2021)."""
    RSLORA = "rslora"
    """Multiplied by alpha / sqrt(rank), so that a high rank learns as fast as a low one (Kalajdzievski 2023)."""
    DORA = "dora"
    """As LORA, with the length of each weight column learned apart from its direction (Liu et al. 2024)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraSettings:
    """The shape of an adapter."""

    rank: int = 16
    """Rank of each update, >= 1."""
    alpha: int = 32
    """Scale of the update; what it is divided by depends on the variant."""
    variant: LoraVariant = LoraVariant.LORA

    @classmethod
    def of_rank(cls, rank: int, variant: LoraVariant = LoraVariant.LORA) -> LoraSettings:
        """With the usual scale, which is 2 at rank 16 for every variant.

        >>> LoraSettings.of_rank(64).alpha, LoraSettings.of_rank(64, LoraVariant.RSLORA).alpha
        (128, 8)
        """
        return cls(rank=rank, alpha=8 if variant is LoraVariant.RSLORA else 2 * rank, variant=variant)

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

    Raises:
        WrongModelError: An adapter is on the model already.
    """
    import torch
    from peft import LoraConfig, get_peft_model

    from fettle.models.lora_linear import fuse_lora
    from fettle.models.nf4 import MAMBA_TYPES

    require_bare(loaded.model)
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=0.0,
        use_rslora=settings.variant is LoraVariant.RSLORA,
        use_dora=settings.variant is LoraVariant.DORA,
        target_modules="all-linear",
        exclude_modules=["out_proj"] if loaded.model.config.model_type in MAMBA_TYPES else None,
        base_model_name_or_path=loaded.source.public_id,
    )
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # PEFT wants the path of this machine for a name; see below
        warnings.simplefilter("ignore", FutureWarning)  # PEFT reads a property of transformers by its older name
        torch.manual_seed(seed)
        model = get_peft_model(loaded.model, config, adapter_name=name)
    model.peft_config[name].base_model_name_or_path = loaded.source.public_id
    fuse_lora(model, name=name)  # pyright: ignore[reportArgumentType] (a mixed model only when asked for)
    return model  # pyright: ignore[reportReturnType] (a mixed model only when asked for)


def save_adapter(model: PeftModel, folder: Path, *, name: str) -> None:
    """Write the adapter as a PEFT folder that any PEFT user can load. Equal adapters give equal files."""
    from peft import LoraConfig

    config = model.peft_config[name]
    if isinstance(config, LoraConfig) and isinstance(config.target_modules, set):
        config.target_modules = sorted(config.target_modules)  # a set's order differs from process to process
    with disk_errors_explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        # With "auto", PEFT's default, it looks for the base model's config on the network.
        model.save_pretrained(
            str(folder), selected_adapters=[name], safe_serialization=True, save_embedding_layers=False
        )
        if (nested := folder / name).is_dir():  # PEFT puts every adapter not called "default" one folder down
            for file in nested.iterdir():
                file.replace(folder / file.name)
            nested.rmdir()


def load_adapter(loaded: LoadedModel, folder: Path, *, name: str) -> PeftModel:
    """The model with an adapter from a PEFT folder, frozen. What cannot be used leaves the base model as it was.

    Raises:
        ModelError: The folder holds no adapter, a damaged one, or one for another model.
    """
    from fettle.models.lora_linear import fuse_lora

    model = put_on(loaded, folder, name=name)
    fuse_lora(model, name=name)
    return model


def continued_adapter(loaded: LoadedModel, folder: Path, *, name: str) -> PeftModel:
    """The same, to be trained further, in the shape it has.

    Raises:
        ModelError: As `load_adapter`.
        WrongModelError: An adapter is on the model already.
    """
    from fettle.models.lora_linear import fuse_lora

    require_bare(loaded.model)
    model = put_on(loaded, folder, name=name, is_trained=True)
    fuse_lora(model, name=name)
    return model


def put_on(
    loaded: LoadedModel, folder: Path, *, name: str, beside: PeftModel | None = None, is_trained: bool = False
) -> PeftModel:
    """The same, with PEFT's own layers; `beside` is the model with the adapters that are on it already."""
    from peft import PeftConfig, PeftModelForCausalLM, set_peft_model_state_dict
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not (folder / "adapter_config.json").is_file():
        raise ModelError(
            "this folder holds no adapter_config.json", where=str(folder), remedy="name a PEFT adapter folder"
        )
    try:
        config = PeftConfig.from_pretrained(str(folder), local_files_only=True)
        tensors = load_file(folder / "adapter_model.safetensors")
    except (OSError, ValueError, TypeError, KeyError, SafetensorError) as error:
        raise ModelError(
            f"the adapter cannot be read ({type(error).__name__}: {_first_line(error)})",
            where=str(folder),
            remedy="take an undamaged copy of adapter_config.json and adapter_model.safetensors",
        ) from error
    config.inference_mode = not is_trained
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # as above
            if beside is None:
                model = PeftModelForCausalLM(loaded.model, config, adapter_name=name)
            else:
                model = beside
                model.add_adapter(name, config)
    except (RuntimeError, ValueError, KeyError) as error:
        raise _does_not_fit(loaded, folder, _first_line(error)) from error
    difference = _difference(model, tensors, name=name)
    if difference is not None:
        take_off(model, name)
        raise _does_not_fit(loaded, folder, difference)
    set_peft_model_state_dict(model, tensors, adapter_name=name)
    model.eval()
    return model


def take_off(model: PeftModel, name: str) -> None:
    """Take one adapter off the model; with the last one PEFT's layers go too."""
    if set(model.peft_config) == {name}:
        unload_adapters(model)
    else:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", UserWarning
            )  # which adapter is active is not what `routed_adapters` goes by
            model.delete_adapter(name)


def _difference(model: PeftModel, tensors: Mapping[str, torch.Tensor], *, name: str) -> str | None:
    """How stored tensors differ from those that the adapter on the model has; None: they do not. PEFT would only warn."""
    from peft import get_peft_model_state_dict

    wanted = get_peft_model_state_dict(model, adapter_name=name, save_embedding_layers=False)
    for key in sorted(wanted.keys() | tensors.keys()):
        if key not in tensors:
            return f"it lacks {key}"
        if key not in wanted:
            return f"the model has no place for {key}"
        if wanted[key].shape != tensors[key].shape:
            return f"{key} has shape {tuple(tensors[key].shape)}, not {tuple(wanted[key].shape)}"
    return None


def _does_not_fit(loaded: LoadedModel, folder: Path, why: str) -> ModelError:
    return ModelError(
        f"the adapter does not fit the model {loaded.source.public_id} ({why})",
        where=str(folder),
        remedy="use the base model it was trained on",
    )


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else ""


def unload_adapters(model: PeftModel) -> None:
    """Take every adapter out of the base model again; its weights were never touched."""
    model.unload()


def adapter_layers(model: PreTrainedModel) -> tuple[torch.nn.Module, ...]:
    """The layers of a model that carry an adapter, in order; none where the model is bare."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    return tuple(module for module in model.modules() if isinstance(module, BaseTunerLayer))


def require_bare(model: PreTrainedModel) -> None:
    """Show that no adapter is on the model.

    Raises:
        WrongModelError: There is one, so what is taken for the base model would answer as a tuned one.
    """
    if num_layers := len(adapter_layers(model)):
        raise WrongModelError(
            f"an adapter is on {num_layers} layers of what should be the base model",
            remedy="close the engine of the tuned model, or end the training, before the base model is asked",
        )


def require_in_place(model: PreTrainedModel, layers: Sequence[torch.nn.Module], *, name: str) -> None:
    """Show that the adapter called `name` is on exactly these layers of the model, and takes part in their output.

    Raises:
        WrongModelError: It was taken off, switched off, merged, or is joined by another one.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    found = adapter_layers(model)
    is_same = len(found) == len(layers) > 0 and all(one is other for one, other in zip(found, layers, strict=True))
    is_on = all(
        isinstance(layer, BaseTunerLayer)
        and layer.active_adapters == [name]
        and not layer.disable_adapters
        and not layer.merged
        for layer in layers
    )
    if not (is_same and is_on):
        raise WrongModelError(
            f"the adapter {name!r} is not in place: what should be the tuned model would answer without it",
            remedy="make a new engine for it; one that was closed cannot answer any more",
        )


def require_active(base_logits: torch.Tensor, tuned_logits: torch.Tensor, *, what: str) -> float:
    """Show that what was trained changes what the model says.

    Args:
        base_logits: First-token logits of the base model [B, V].
        tuned_logits: The same of the tuned one [B, V].
        what: What was trained, for the message.

    Returns:
        The largest absolute difference, in logits.

    Raises:
        WrongModelError: They are equal: an adapter is not loaded, not selected, or empty.
    """
    largest = float((base_logits.float() - tuned_logits.float()).abs().max())
    if not largest > 0.0:
        raise WrongModelError(
            f"{what} is inactive: it gives the logits of the base model, so the study would compare the base model with itself",
            remedy="run again with --fresh to train again; if this repeats, report it",
        )
    return largest
