"""The tuned model as one set of weights, shown to say what the model says that has the adapter beside it.

Legend: R token rows, T tokens of a row, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fettle.chat.renderer import ChatRenderer
from fettle.errors import IntegrityError, ResourceError, memory_errors_explained
from fettle.export.compare import Difference, difference, row_logits
from fettle.export.source import TunedSource, tuned_model
from fettle.models.adapter import adapter_layers, load_adapter, require_active
from fettle.models.load import LoadedModel, load_model
from fettle.models.precision import Precision
from fettle.records import Message

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

_ADAPTER_NAME = "tuned"
_MOST_MERGE_DIFFERENCE = 1e-3
"""Of the logits' spread, between an adapter beside the weights and in them, fp32: 2e-6 was measured, with DoRA 2e-5."""

_QUESTIONS = (
    "Where is my parcel? It was due on Monday, order 4471-B.",
    "I was charged twice (12.50 and 12.50)!\n\nPlease refund one of them; thanks, Zoë",
    "Summarise in one sentence: the meeting moved from 9:30 to 14:00, room 12, and lunch is cancelled.",
)
_ANSWER = "We are sorry for the trouble. It left the depot today."


@dataclass(frozen=True, slots=True, kw_only=True)
class MergedModel:
    """The tuned model in memory, fp32, with what it says on some rows: what every file that is written is held against."""

    loaded: LoadedModel
    """Its `source` is the base model, or the tuned one where all weights were trained; its model is the tuned one either way."""
    rows: tuple[tuple[int, ...], ...]
    """Token ids of short conversations, as the chat template writes them."""
    logits: tuple[torch.Tensor, ...]
    """What it gives for each of them [T, V], fp32."""
    merge: Difference | None
    """How it differs from the base model with the adapter beside it; None: there was no adapter to merge."""
    tuning: Difference | None
    """How the base model differs from it: what training changed; None: the base model is not there."""

    @property
    def model(self) -> PreTrainedModel:
        """The weights."""
        return self.loaded.model

    @property
    def tokenizer(self) -> Any:
        """The tokenizer, with the chat template."""
        return self.loaded.renderer.tokenizer


def load_merged(source: TunedSource) -> MergedModel:
    """Load what was tuned, with an adapter merged into the base weights in fp32.

    Raises:
        ModelError: Base model or adapter cannot be loaded, or do not fit each other.
        IntegrityError: The adapter does nothing, or the merged weights say something else than the adapter does.
        ResourceError: The model does not fit into memory in fp32.
    """
    loaded = load_whole(source)
    rows = token_rows(loaded.renderer)
    if not source.is_adapter:
        logits = row_logits(loaded.model, rows)
        return MergedModel(loaded=loaded, rows=rows, logits=logits, merge=None, tuning=None)
    beside = put_adapter_on(loaded, source, rows)
    with memory_errors_explained("merging the adapter"):
        merged = beside.peft.merge_and_unload(progressbar=False, safe_merge=True)
    if merged is not loaded.model or adapter_layers(loaded.model):
        raise IntegrityError("the adapter is still on the model after it was merged", where=str(source.folder))
    logits = row_logits(loaded.model, rows)
    found = difference(beside.logits, logits)
    if not found.relative < _MOST_MERGE_DIFFERENCE:
        raise IntegrityError(
            f"the merged weights do not say what the adapter says: their logits differ by {found.relative:.1%} of the spread",
            where=str(source.folder),
            remedy="export the adapter itself, --format adapter; where embedding and head are one tensor, an adapter on one of "
            "them cannot be merged",
        )
    tuning = difference(logits, beside.base_logits)
    return MergedModel(loaded=loaded, rows=rows, logits=logits, merge=found, tuning=tuning)


def load_whole(source: TunedSource) -> LoadedModel:
    """The weights below an adapter, or those that were tuned as a whole, in fp32.

    Raises:
        ModelError: They cannot be loaded.
        ResourceError: They do not fit into memory.
    """
    try:
        return load_model(tuned_model(source), Precision.EXACT)
    except ResourceError as error:
        raise ResourceError(
            f"{error.problem}; an export computes in fp32",
            where=error.where,
            remedy="run it on a machine with more memory",
        ) from error


@dataclass(frozen=True, slots=True)
class AdapterBeside:
    """A model with its adapter beside the weights, and what it says with and without."""

    peft: Any
    logits: tuple[torch.Tensor, ...]
    base_logits: tuple[torch.Tensor, ...]


def put_adapter_on(loaded: LoadedModel, source: TunedSource, rows: Sequence[Sequence[int]]) -> AdapterBeside:
    """Load an adapter onto its base model, as PEFT computes it, and show that it does something.

    Raises:
        ModelError: It is damaged, or for another model.
        IntegrityError: It changes nothing.
    """
    from fettle.models.lora_linear import as_peft_computes

    base = row_logits(loaded.model, rows)
    peft = load_adapter(loaded, source.folder, name=_ADAPTER_NAME)
    with as_peft_computes(peft):
        logits = row_logits(loaded.model, rows)
    require_active(base[0], logits[0], what=f"the adapter {str(source.folder)!r}")
    return AdapterBeside(peft, logits, base)


def token_rows(renderer: ChatRenderer) -> tuple[tuple[int, ...], ...]:
    """Short conversations as token ids, each with its answer."""
    answer = renderer.answer_tokens(_ANSWER)
    return tuple((*renderer.prompt_tokens([Message(role="user", content=text)]), *answer) for text in _QUESTIONS)
