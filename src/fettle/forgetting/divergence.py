"""How far a tuned model has moved away from its base model in what it says next: KL(base ‖ tuned), nats a token.

Measured on the task's own inputs, along the answers that the base model gives to them, greedily as it is served. Not along the
wanted answers: there the tuned model is meant to differ, and what the base model thinks of words that it would never have come to
is nobody's behaviour. The mean over the tokens of the base model's own answers is the chain rule of the divergence of whole answers
(per token). This divergence was found to foretell how much is forgotten elsewhere (Shenfeld, Pari and Agrawal 2025, "RL's Razor").

Legend: N tokens of answers, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from fettle.chat.renderer import ChatRenderer
from fettle.models.adapter import load_adapter, unload_adapters
from fettle.models.head import CHUNK_ROWS
from fettle.models.load import LoadedModel
from fettle.models.packed_logits import logits_along
from fettle.models.token_groups import token_groups
from fettle.models.understood import own_logits
from fettle.records import Answer, FinishReason, Prompt, TokenisedExample
from fettle.report_records import TokenDivergence
from fettle.statistics.ratio_bootstrap import positive_mean_interval

if TYPE_CHECKING:
    from transformers import PreTrainedModel

MAX_ANSWER_TOKENS = 64
"""Of the base model's answers that are measured along."""
_MAX_TOKENS = 2048
"""Tokens that are run at once."""

Side = Callable[[], AbstractContextManager["PreTrainedModel"]]
"""Within it a model is what it is on one side."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sides:
    """A base model and what was tuned from it."""

    base: Side
    tuned: Side
    plainly: bool = False
    """They are run by their own forward: packed rows do not fit them."""


@contextmanager
def adapter_sides(loaded: LoadedModel, folder: Path) -> Iterator[Sides]:
    """A bare base model without and with the adapter in `folder`; the adapter is off again afterwards.

    Raises:
        ModelError: The folder holds no adapter for this model.
    """
    peft = load_adapter(loaded, folder, name="tuned")

    @contextmanager
    def bare() -> Iterator[PreTrainedModel]:
        with peft.disable_adapter():
            yield loaded.model

    try:
        yield Sides(base=bare, tuned=lambda: nullcontext(loaded.model), plainly=loaded.plain_reason is not None)
    finally:
        unload_adapters(peft)


def model_sides(base: LoadedModel, tuned: LoadedModel) -> Sides:
    """Two models with one vocabulary."""
    return Sides(
        base=lambda: nullcontext(base.model),
        tuned=lambda: nullcontext(tuned.model),
        plainly=base.plain_reason is not None or tuned.plain_reason is not None,
    )


def answered_rows(
    renderer: ChatRenderer, prompts: Sequence[Prompt], answers: Sequence[Answer]
) -> tuple[TokenisedExample, ...]:
    """The prompts with the answers that were given to them, the tokens of the answers marked; failed requests are left out.

    The end of turn is a token of an answer that ended by itself, and of no other.
    """
    rows = []
    for prompt, answer in zip(prompts, answers, strict=True):
        if answer.has_failed:
            continue
        asked = renderer.prompt_tokens(prompt.messages, prompt.tools)
        said = renderer.answer_tokens(answer.text)
        said = said if answer.finish_reason is FinishReason.STOP else said[:-1]
        if said:
            is_said = (False,) * len(asked) + (True,) * len(said)
            rows.append(TokenisedExample(example_id=prompt.example_id, token_ids=asked + said, is_trained=is_said))
    return tuple(rows)


def token_divergences(
    rows: Sequence[TokenisedExample], sides: Sides, *, max_tokens: int = _MAX_TOKENS
) -> tuple[tuple[float, ...], ...]:
    """KL(base ‖ tuned) of the distribution of each marked token, nats, row by row.

    Each side runs some rows at a time in one packed pass, what they all begin with once; the logits of few tokens exist at once.

    Args:
        rows: Prompts with answers, the answers' tokens marked.
        sides: The two models.
        max_tokens: Bound on the tokens that are run at once; one row always is.
    """
    found: list[tuple[float, ...]] = []
    log_probs = _plain_log_probs if sides.plainly else _packed_log_probs
    for group in _groups(rows, max_tokens=max_tokens):
        some = rows[group.start : group.stop]
        with torch.inference_mode():
            with sides.base() as model:
                base_NV = log_probs(model, some)
            with sides.tuned() as model:
                tuned_NV = log_probs(model, some)
            # Rounding can bring a sum of nothing but rounding below 0, where a divergence never is.
            nats_N = (base_NV.exp() * (base_NV - tuned_NV)).sum(-1).clamp_min(0.0).cpu()
        found += [tuple(of_row.tolist()) for of_row in nats_N.split([row.num_trained_tokens for row in some])]
    return tuple(found)


def mean_divergence(divergences: Sequence[Sequence[float]], clusters: Sequence[int], *, seed: int) -> TokenDivergence:
    """The mean over all tokens, with its interval by a bootstrap that draws whole clusters of inputs.

    Args:
        divergences: Nats of each token, row by row; at least one token.
        clusters: Which inputs belong together, an id for each row.
        seed: Of the resampling.
    """
    nats = [value for row in divergences for value in row]
    cluster_of_token = [cluster for row, cluster in zip(divergences, clusters, strict=True) for _ in row]
    return TokenDivergence(
        nats=sum(nats) / len(nats),
        interval=positive_mean_interval(nats, cluster_of_token, seed=seed),
        num_tokens=len(nats),
        num_inputs=len(divergences),
    )


def _groups(rows: Sequence[TokenisedExample], *, max_tokens: int) -> Iterator[range]:
    """Neighbours with few enough tokens to be run at once, and few enough answers' tokens to have logits at once."""
    for group in token_groups([len(row.token_ids) for row in rows], max_tokens=max_tokens):
        num_said = [row.num_trained_tokens for row in rows[group.start : group.stop]]
        for part in token_groups(num_said, max_tokens=CHUNK_ROWS):
            yield range(group.start + part.start, group.start + part.stop)


def _packed_log_probs(model: PreTrainedModel, rows: Sequence[TokenisedExample]) -> torch.Tensor:
    """Log-probabilities [N, V], fp32, of what stands at each marked place, from one packed pass."""
    asked = [row.token_ids[: row.is_trained.index(True)] for row in rows]
    before = [row.token_ids[len(prompt) : -1] for row, prompt in zip(rows, asked, strict=True)]
    return logits_along(model, asked, before).log_softmax(-1)


def _plain_log_probs(model: PreTrainedModel, rows: Sequence[TokenisedExample]) -> torch.Tensor:
    """The same by the model's own forward, row by row."""
    said = [own_logits(model, row.token_ids)[row.is_trained.index(True) - 1 : -1] for row in rows]
    return torch.cat(said).log_softmax(-1)
