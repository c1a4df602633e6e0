"""Which model classes can be written as GGUF, and their hyperparameters in llama.cpp's words.

Only what llama.cpp computes exactly as transformers does is listed; all else is refused, because a file that loads and answers a
little wrongly is worse than none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fettle.errors import ModelError

if TYPE_CHECKING:
    import numpy as np
    from transformers import PreTrainedModel

CONVERT_REMEDY = (
    "export with --format merged: llama.cpp's own convert_hf_to_gguf.py reads that folder and knows many more models"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """How llama.cpp knows a model class."""

    name: str
    """Of the architecture, which is also the prefix of its keys."""
    interleaves_rotary: bool
    """It turns neighbouring values of a head, where transformers turns those of its two halves."""
    biases: frozenset[str]
    """Last parts of the modules whose bias it adds."""


_ATTENTION_INPUTS = frozenset({"q_proj", "k_proj", "v_proj"})
_LLAMA = Architecture(name="llama", interleaves_rotary=True, biases=_ATTENTION_INPUTS | {"o_proj"})
ARCHITECTURES: Mapping[str, Architecture] = {
    "LlamaForCausalLM": _LLAMA,
    "MistralForCausalLM": _LLAMA,
    "Qwen2ForCausalLM": Architecture(name="qwen2", interleaves_rotary=False, biases=_ATTENTION_INPUTS),
    "Qwen3ForCausalLM": Architecture(name="qwen3", interleaves_rotary=False, biases=frozenset()),
}
"""By the model's class in transformers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hyperparameters:
    """What llama.cpp has to know beside the tensors, and its keys."""

    architecture: Architecture
    values: Mapping[str, int | float]
    """By key, without the architecture's prefix."""
    rotary_factors: np.ndarray | None
    """What each frequency of the rotary embedding is divided by [D / 2], fp32; None: nothing."""


def hyperparameters(model: PreTrainedModel) -> Hyperparameters:
    """What llama.cpp has to know of a model beside its tensors.

    Raises:
        ModelError: It is of a class, or has a setting, that cannot be written rightly.
    """
    architecture = ARCHITECTURES.get(type(model).__name__)
    if architecture is None:
        supported = ", ".join(name.removesuffix("ForCausalLM") for name in ARCHITECTURES)
        raise _cannot(f"a {type(model).__name__} cannot be written as GGUF here, only the classes {supported}")
    config: Any = model.config
    _refuse_other_computations(config)
    head_size = _head_size(config)
    values: dict[str, int | float] = {
        "block_count": config.num_hidden_layers,
        "context_length": _context_length(config),
        "embedding_length": config.hidden_size,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": config.num_key_value_heads,
        "attention.key_length": head_size,
        "attention.value_length": head_size,
        "attention.layer_norm_rms_epsilon": float(config.rms_norm_eps),
        "rope.freq_base": float(config.rope_parameters["rope_theta"]),
        "rope.dimension_count": head_size,
        "vocab_size": config.vocab_size,
    }
    return Hyperparameters(
        architecture=architecture, values=values, rotary_factors=_rotary_factors(model, architecture, head_size)
    )


def _refuse_other_computations(config: Any) -> None:
    if config.hidden_act not in ("silu", "swish"):
        raise _cannot(f"its activation is {config.hidden_act}, and llama.cpp computes silu there")
    if config.rope_parameters.get("partial_rotary_factor", 1.0) != 1.0:
        raise _cannot("it turns a part of each head only")


def _head_size(config: Any) -> int:
    """Not every config of these classes has the field, and where it does it may be empty."""
    given = getattr(config, "head_dim", None)
    return int(given) if given else config.hidden_size // config.num_attention_heads


def _context_length(config: Any) -> int:
    """Tokens up to which llama.cpp computes the same: it knows no sliding window for these classes."""
    layer_types = getattr(config, "layer_types", None) or []
    window = getattr(config, "sliding_window", None)
    has_window = window is not None and ("sliding_attention" in layer_types or not layer_types)
    return min(config.max_position_embeddings, window) if has_window else config.max_position_embeddings


def _rotary_factors(model: PreTrainedModel, architecture: Architecture, head_size: int) -> np.ndarray | None:
    """What the model divides each frequency of the plain rotary embedding by (Llama 3.1), read off the model itself."""
    import torch

    parameters: Any = model.config.rope_parameters  # pyright: ignore[reportAttributeAccessIssue] (all these classes have it)
    kind = parameters.get("rope_type", "default")
    if kind == "default":
        return None
    if kind != "llama3" or architecture is not _LLAMA:
        raise _cannot(f"its rotary embedding is scaled in the way {kind!r}")
    exponents = torch.arange(0, head_size, 2, dtype=torch.float32) / head_size
    plain = 1.0 / parameters["rope_theta"] ** exponents
    own: torch.Tensor = model.get_submodule("model.rotary_emb").inv_freq  # pyright: ignore[reportAssignmentType]
    return (plain / own.float().cpu()).numpy()


def _cannot(problem: str) -> ModelError:
    return ModelError(problem, where="--format gguf", remedy=CONVERT_REMEDY)
