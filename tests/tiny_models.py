"""Tiny random models of the families that users bring: two layers, a few hundred tokens, made in milliseconds.

The weights are drawn wide, so that greedy decoding takes varied tokens with clear margins.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from chat_templates import CHATML, GEMMA, LLAMA3, MISTRAL, PHI3, QWEN3

SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|begin_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "<bos>",
    "<start_of_turn>",
    "<end_of_turn>",
    "<s>",
    "</s>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|end|>",
)
ORDINARY_ADDED_TOKENS = ("<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>")
"""Added tokens that are not special: decoding spells them out."""

_CORPUS = (
    "Answer with the one label that fits the message: refund, late parcel, lost card.",
    "The parcel has not arrived yet, the driver left no note at the door. Where is it?",
    "I was charged twice for the same order and want my money back, please.",
    '{"queue": "refund", "urgent": true, "amount": 12.5, "date": null}',
    '{"queue": "delivery", "urgent": false, "amount": 3, "date": "2026-01-31"}',
    "system user assistant model tool name arguments parameters description function",
)
_SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "initializer_range": 0.3,
    "tie_word_embeddings": False,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": 0,
}
NARROW_WINDOW = 12
"""A sliding window shorter than every test prompt."""

TEMPLATE_BY_FAMILY = {
    "llama": LLAMA3,
    "qwen2": CHATML,
    "qwen3": QWEN3,
    "mistral": MISTRAL,
    "mistral_narrow": MISTRAL,
    "gemma2": GEMMA,
    "gemma2_narrow": GEMMA,
    "gemma3": GEMMA,
    "gemma3_narrow": GEMMA,
    "phi3": PHI3,
    "phi3_narrow": PHI3,
    "olmo2": CHATML,
    "smollm3": CHATML,
}
FAMILIES = tuple(TEMPLATE_BY_FAMILY)


@lru_cache(maxsize=1)
def _tokenizer_json() -> str:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=420, special_tokens=list(SPECIAL_TOKENS), initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(_CORPUS, trainer)
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in ORDINARY_ADDED_TOKENS])
    return tokenizer.to_str()


def tiny_tokenizer(template: str | None) -> Any:
    """A byte-level BPE tokenizer that knows the markers of all test templates."""
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(_tokenizer_json()), eos_token="<|endoftext|>", pad_token="<|endoftext|>"
    )
    tokenizer.chat_template = template
    return tokenizer


def tiny_config(family: str, vocab_size: int) -> Any:
    """The configuration of a family; `_narrow` ones have a sliding window shorter than every test prompt."""
    import transformers as t

    sizes: dict[str, Any] = _SIZES | {"vocab_size": vocab_size}
    window = NARROW_WINDOW if family.endswith("_narrow") else 512
    mixed: dict[str, Any] = {
        "layer_types": ["sliding_attention", "full_attention"],
        "sliding_window": window,
        "head_dim": 8,
    }
    match family.removesuffix("_narrow"):
        case "llama":
            return t.LlamaConfig(**sizes)
        case "qwen2":
            return t.Qwen2Config(**sizes)
        case "qwen3":
            return t.Qwen3Config(**sizes, head_dim=8)
        case "mistral":
            return t.MistralConfig(**sizes, sliding_window=window)
        case "gemma2":
            return t.Gemma2Config(**sizes, **mixed, query_pre_attn_scalar=8, final_logit_softcapping=5.0)
        case "gemma3":
            return t.Gemma3TextConfig(**sizes, **mixed, query_pre_attn_scalar=8, final_logit_softcapping=5.0)
        case "phi3":
            return t.Phi3Config(**sizes, sliding_window=window)
        case "olmo2":
            return t.Olmo2Config(**sizes)
        case "smollm3":
            return t.SmolLM3Config(**sizes)
        case _:
            raise ValueError(f"no such family: {family}")


def save_tiny_model(
    folder: Path, family: str, *, seed: int = 0, template: str | None = None, tied: bool = False
) -> Path:
    """Write a random model in Hugging Face format; the folder. `tied`: its head is its embedding."""
    import torch
    from transformers import AutoModelForCausalLM

    tokenizer = tiny_tokenizer(template or TEMPLATE_BY_FAMILY[family])
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = tiny_config(family, len(tokenizer) + 3)
        config.tie_word_embeddings = tied
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def save_deep_model(folder: Path, *, num_layers: int) -> Path:
    """Write a random Llama of many layers; the folder."""
    import torch
    from transformers import AutoModelForCausalLM

    tokenizer = tiny_tokenizer(TEMPLATE_BY_FAMILY["llama"])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = tiny_config("llama", len(tokenizer) + 3)
        config.num_hidden_layers = num_layers
        AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def save_unknown_model(folder: Path, kind: str) -> Path:
    """Write a random model of a class that packed rows do not fit, `lfm2` or `mamba`; the folder."""
    import torch
    import transformers as t

    tokenizer = tiny_tokenizer(CHATML)
    sizes: dict[str, Any] = {
        "vocab_size": len(tokenizer) + 3,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "initializer_range": 0.3,
        "bos_token_id": 0,
        "eos_token_id": 0,
        "pad_token_id": 0,
    }
    if kind == "mamba":
        config = t.MambaConfig(**sizes, state_size=4)
    else:
        attention = {"num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 48}
        layers = ["conv", "full_attention"]
        config = t.Lfm2Config(**sizes, **attention, layer_types=layers, block_auto_adjust_ff_dim=False)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = t.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def load_tiny_model(folder: Path, *, in_nf4: bool = False) -> Any:
    """The model of a folder in fp32, as Fettle loads it; `in_nf4`: its linear layers in 4 bits."""
    from fettle.models.load import load_model
    from fettle.models.precision import BaseWeights, Precision
    from fettle.models.resolve import resolve_model

    base_weights = BaseWeights.NF4 if in_nf4 else BaseWeights.AS_GIVEN
    return load_model(resolve_model(str(folder)), Precision.EXACT, base_weights)
