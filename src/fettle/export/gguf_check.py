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
from fettle.export.compare import Difference, difference, row_logits
from fettle.export.gguf_file import GgufContent, read_gguf, read_values, read_vocabulary
from fettle.export.gguf_tensors import decoded, encoded
from fettle.export.gguf_vocabulary import Vocabulary, rebuilt
from fettle.export.merge import MergedModel
from fettle.export.settings import WeightType

if TYPE_CHECKING:
    from transformers import PreTrainedModel

MOST_DIFFERENCE = {
    WeightType.F32: 1e-4,
    WeightType.F16: 0.01,
    WeightType.BF16: 0.05,
    WeightType.Q8_0: 0.1,
    WeightType.Q4_1: 0.6,
}
"""Of the logits' spread. The tensors themselves are compared exactly; this shows that the type is precise enough for the model.
Measured with the embedded model: see `LOG.md`."""

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
        expected = decoded(plan, encoded(plan, weights[plan.source]))
        if not np.allclose(found[plan.source].numpy(), expected, rtol=1e-6, atol=1e-9):
            raise _wrong(path, f"{plan.source} is not what was written")
    measured = difference(merged.logits, row_logits(again, merged.rows))
    if not measured.relative < MOST_DIFFERENCE[content.weight_type]:
        raise IntegrityError(
            f"as {content.weight_type} it does not answer as the tuned model does: its logits differ by "
            f"{measured.relative:.0%} of their spread, more than {MOST_DIFFERENCE[content.weight_type]:.0%}",
            where=str(path),
            remedy="choose a more precise --type: q8_0, f16 or bf16",
        )
    return measured


def _read_back(path: Path, content: GgufContent, merged: MergedModel) -> PreTrainedModel:
    """The model as transformers reads it from the file, fp32.

    The sizes are given, not read: of a Qwen model transformers takes those of a head for granted.
    """
    import torch
    from transformers import AutoModelForCausalLM, GgufConfig

    config: Any = copy.deepcopy(merged.model.config)
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


def _wrong(path: Path, problem: str) -> IntegrityError:
    return IntegrityError(
        f"the GGUF file was read back and is wrong ({problem}); it was deleted",
        where=str(path),
        remedy="export with --format merged, and report this",
    )
