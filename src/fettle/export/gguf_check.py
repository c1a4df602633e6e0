"""A GGUF file is read back before it counts: by transformers, and its tokenizer as llama.cpp builds it.

Legend: T tokens of a row, V vocabulary.
"""

from __future__ import annotations

import copy
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fettle.errors import IntegrityError
from fettle.export.compare import MOST_DIFFERENCE, Difference, difference, row_logits
from fettle.export.gguf_file import GgufContent, read_gguf, read_values, read_vocabulary
from fettle.export.gguf_tensors import rounded
from fettle.export.gguf_vocabulary import Vocabulary, rebuilt
from fettle.export.merge import MergedModel
from fettle.export.settings import WeightType

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_MOST_DIFFERENCE = MOST_DIFFERENCE | {WeightType.Q8_0: 0.15, WeightType.Q4_1: 0.3}
"""Of the logits' spread. The tensors themselves are compared exactly; this shows that the type is precise enough for the model.
About five times what was measured of the embedded model (0, 0.0013, 0.007, 0.028), but for Q4_1."""
_MOST_LOST, _NEGLIGIBLE_NATS = 0.25, 0.02
"""Of what training changed, KL(tuned ‖ written) beside KL(tuned ‖ base), unless it is next to nothing. Rounding to 4 bits can
undo a tuning whose updates are smaller than the steps: it still answers fluently, and like the base model."""

_TEXTS = (
    "Where is my parcel?\n\nIt was due on 12.05.2026, at 9:30!",
    "  two spaces,\ttabs\t\tand\n\n\n  lines   \n 1234567 12,50 €  ",
    "I'll, WE'VE, don't; naïve Zoë, Straße, 北京 парсел 🚚📦 \u200d",
    'def f(x):\n    return {"a": [1, 2.5e-3], "b": null}  # ok',
)


def check_gguf(path: Path, content: GgufContent, merged: MergedModel) -> Difference:
    """Show that a file holds the model, its tokenizer and its chat template; how its answers differ from the model's.

    Raises:
        IntegrityError: It does not, or it answers too differently.
    """
    reader = read_gguf(path)
    said = read_values(reader, content.hyperparameters.architecture.name)
    wanted = content.hyperparameters.values
    if wrong := [key for key, value in wanted.items() if abs(said.get(key, float("nan")) - value) > 1e-6 * abs(value)]:
        raise _wrong(path, f"it says of {wrong[0]} {said.get(wrong[0])}, not {wanted[wrong[0]]}")
    found = read_vocabulary(reader)
    del reader  # it maps the whole file into memory
    if found != content.vocabulary:
        raise _wrong(path, "its tokenizer or chat template is not the model's")
    check_tokens(found, merged, where=str(path))
    return _check_weights(path, content, merged)


def check_tokens(found: Vocabulary, merged: MergedModel, *, where: str) -> None:
    """Show that a tokenizer made of what a file says gives the tokens of the model's own.

    Raises:
        IntegrityError: It gives others.
    """
    as_llama_cpp, own = rebuilt(found), merged.tokenizer
    markers = "".join(str(token) for token in own.added_tokens_decoder.values())
    turns = [{"role": "user", "content": _TEXTS[0]}, {"role": "assistant", "content": "On its way."}]
    rendered = str(own.apply_chat_template(turns, tokenize=False))
    for text in (*_TEXTS, markers, rendered):
        ours, theirs = (
            own(text, add_special_tokens=False)["input_ids"],
            as_llama_cpp.encode(text, add_special_tokens=False).ids,
        )
        if list(ours) != list(theirs):
            raise IntegrityError(
                f"llama.cpp would cut the text {text[:40]!r} into other tokens than the model was trained on",
                where=where,
                remedy="export with --format merged, and report this",
            )


def _check_weights(path: Path, content: GgufContent, merged: MergedModel) -> Difference:
    import numpy as np

    again = _read_back(path, content, merged)
    weights, found = merged.model.state_dict(), again.state_dict()
    for plan in content.tensors:
        expected = rounded(plan, weights[plan.source], content.blocks.get(plan.source))
        if not np.allclose(found[plan.source].numpy(), expected, rtol=1e-6, atol=1e-9):
            raise _wrong(path, f"{plan.source} is not what was written")
    measured = difference(merged.logits, row_logits(again, merged.rows))
    _require_kept(measured, merged.tuning, content.weight_type, where=str(path))
    return measured


def _require_kept(measured: Difference, tuning: Difference | None, weight_type: WeightType, *, where: str) -> None:
    """Show that rounding to a type left what training changed.

    Raises:
        IntegrityError: It did not.
    """
    if not measured.relative < _MOST_DIFFERENCE[weight_type]:
        problem = f"its logits differ by {measured.relative:.0%} of their spread"
    elif tuning is not None and measured.kl_nats > max(_MOST_LOST * tuning.kl_nats, _NEGLIGIBLE_NATS):
        problem = (
            f"it is {measured.kl_nats:.2g} nats a token away from it, where the base model is {tuning.kl_nats:.2g} away"
        )
    else:
        return
    raise IntegrityError(
        f"as {weight_type} it does not answer as the tuned model does: {problem}; it was deleted",
        where=where,
        remedy="choose a more precise --type: q8_0, f16 or bf16",
    )


def _read_back(path: Path, content: GgufContent, merged: MergedModel) -> PreTrainedModel:
    """The model as transformers reads it from the file, fp32.

    The sizes are given, not read: of a Qwen model transformers takes those of a head for granted.
    """
    import torch
    from transformers import AutoModelForCausalLM, GgufConfig

    config = _config_of_file(merged.model.config, content)
    config.tie_word_embeddings = "lm_head.weight" not in {plan.source for plan in content.tensors}
    try:
        with redirect_stderr(StringIO()):  # its progress bar cannot be switched off otherwise
            again, report = AutoModelForCausalLM.from_pretrained(  # pyright: ignore[reportGeneralTypeIssues] (a pair)
                str(path.parent),
                gguf_file=path.name,
                config=config,
                dtype=torch.float32,
                quantization_config=GgufConfig(dequantize=True),
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
    except (OSError, ValueError, KeyError, RuntimeError, NotImplementedError) as error:
        raise _wrong(path, f"transformers cannot read it ({type(error).__name__}: {error})") from error
    if report["missing_keys"] or report["mismatched_keys"]:
        raise _wrong(path, f"transformers misses {sorted(report['missing_keys'])[:1] or report['mismatched_keys']}")
    return again.eval()


def _config_of_file(own: Any, content: GgufContent) -> Any:
    """The model's own configuration, under the class that the file names: it calls a Mistral a Llama."""
    from transformers import LlamaConfig

    if own.model_type == content.hyperparameters.architecture.name:
        return copy.deepcopy(own)
    shared = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    shared += ("num_key_value_heads", "max_position_embeddings", "rms_norm_eps", "rope_parameters")
    head_size = int(content.hyperparameters.values["attention.key_length"])
    return LlamaConfig(**{name: getattr(own, name) for name in shared}, head_dim=head_size)


def _wrong(path: Path, problem: str) -> IntegrityError:
    return IntegrityError(
        f"the GGUF file was read back and is wrong ({problem}); it was deleted",
        where=str(path),
        remedy="export with --format merged, and report this",
    )
