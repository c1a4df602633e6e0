"""How far a served model, and what was exported of it, are from the exact model: log-probabilities of the same tokens.

The exact model is base and adapter computed in float64. What the engine that serves is away from it, and PEFT in float32, is the
noise of float32; an export that is no further away answers as the served model does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fettle.answering.engine import GenerationOptions
from fettle.answering.engines.shared_engine import SharedEngine
from fettle.answering.stream import AnswerStream
from fettle.models.load import LoadedModel
from fettle.records import Prompt, TokenLogProb


@dataclass(frozen=True, slots=True)
class Served:
    """What a served model says to one prompt."""

    prompt_ids: list[int]
    token_ids: list[int]
    log_probs: torch.Tensor  # [T]


def served(
    loaded: LoadedModel, adapter: Path, prompts: Sequence[Prompt], *, max_new_tokens: int, alone: bool
) -> list[Served]:
    """Greedy answers of an adapter by the engine that serves it.

    Args:
        loaded: The base model.
        adapter: Its folder.
        prompts: What is asked.
        max_new_tokens: Of an answer.
        alone: Whether they are asked one after the other; else all at once.
    """
    options = GenerationOptions(max_new_tokens=max_new_tokens, num_top_log_probs=0)
    with SharedEngine(loaded) as engine:
        engine.add("tuned", adapter, prompts)
        if alone:
            answers = [_log_probs(engine.submit(prompt, options, adapter="tuned")) for prompt in prompts]
        else:
            streams = [engine.submit(prompt, options, adapter="tuned") for prompt in prompts]
            answers = [_log_probs(stream) for stream in streams]
    return [
        Served(
            list(loaded.renderer.prompt_tokens(prompt.messages, prompt.tools)),
            [entry.token_id for entry in answer],
            torch.tensor([entry.log_prob for entry in answer]),
        )
        for prompt, answer in zip(prompts, answers, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class Distance:
    """Between two models over some tokens, nats."""

    furthest: float
    root_mean_square: float


def said(answers: Sequence[Served]) -> torch.Tensor:
    """The log-probabilities of all tokens of some answers, as they were served [T of all]."""
    return torch.cat([answer.log_probs for answer in answers]).double()


def said_by(answers: Sequence[Served], logits: Callable[[list[int]], Any]) -> torch.Tensor:
    """The log-probabilities of the same tokens by another model, which gives logits [T, V] for a row of tokens [T of all]."""
    found = []
    for answer in answers:
        rows = torch.log_softmax(logits(answer.prompt_ids + answer.token_ids), -1)
        found.append(rows[len(answer.prompt_ids) - 1 : -1].gather(1, torch.tensor(answer.token_ids)[:, None])[:, 0])
    return torch.cat(found).double()


def distance(log_probs: torch.Tensor, exact: torch.Tensor) -> Distance:
    """Of what a model says from what the exact one says."""
    apart = (log_probs - exact).abs()
    return Distance(float(apart.max()), float(apart.square().mean().sqrt()))


def _log_probs(stream: AnswerStream) -> list[TokenLogProb]:
    return [entry for piece in stream for entry in piece.log_probs]
