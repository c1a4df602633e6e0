"""How far what a served model says is from what another model would have said: log-probabilities of the same tokens."""

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

ROUNDINGS = 2.0
"""Merged weights are rounded once more than those of an adapter, and so are the products with them."""


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


def differences(answers: Sequence[Served], logits: Callable[[list[int]], Any]) -> torch.Tensor:
    """By how much each token's log-probability differs, nats, where the same answers are given to another model [T of all]."""
    found = []
    for answer in answers:
        rows = torch.log_softmax(logits(answer.prompt_ids + answer.token_ids).float(), -1)
        written = rows[len(answer.prompt_ids) - 1 : -1].gather(1, torch.tensor(answer.token_ids)[:, None])[:, 0]
        found.append((written - answer.log_probs).abs())
    return torch.cat(found)


def _log_probs(stream: AnswerStream) -> list[TokenLogProb]:
    return [entry for piece in stream for entry in piece.log_probs]
