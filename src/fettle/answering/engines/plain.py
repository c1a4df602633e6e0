"""The plain engine: the library's own forward and `generate`, one prompt after the other, for models that packed rows do not fit.

Slower, and right for every causal model that transformers knows: nothing is padded before a prompt, so layers with a state of their
own (Mamba, short convolutions) see what they see in training.

Legend: N tree nodes, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList, StoppingCriteriaList

from fettle.answering.choices import ChoiceTree
from fettle.answering.engines.local import LocalEngine
from fettle.answering.engines.running_batch import Row
from fettle.answering.writing import AnswerInWriting, take_next
from fettle.models.load import LoadedModel
from fettle.models.padding import padded
from fettle.models.token_groups import even_groups, token_groups
from fettle.models.understood import own_logits
from fettle.records import Prompt

_MOST_TOKENS = 4096
"""Padded tokens run at once when choices are scored."""
_BATCH = 8
"""Prompts whose answers are written to disk together."""


def local_engine(loaded: LoadedModel, *, adapter: Path | None = None) -> LocalEngine:
    """The fastest engine that answers with a model as it was trained."""
    return LocalEngine(loaded, adapter=adapter) if loaded.plain_reason is None else PlainEngine(loaded, adapter=adapter)


class PlainEngine(LocalEngine):
    """As `LocalEngine`, by the model's own forward."""

    @property
    def name(self) -> str:
        """The model, and how it is run."""
        return f"{super().name} (run in the plain way)"

    def batches(self, prompts: Sequence[Prompt]) -> tuple[tuple[int, ...], ...]:
        """A few prompts each, in order."""
        return even_groups(len(prompts), _BATCH)

    def _require_runnable(self) -> None:
        """Every model runs its own forward."""

    def _first_logits(self, rows: Sequence[Sequence[int]]) -> torch.Tensor:
        return torch.stack([own_logits(self._model, row)[-1] for row in rows])

    def _write(self, rows: Sequence[Row]) -> None:
        for row in rows:
            ids_1T = torch.tensor([row.token_ids], device=self._model.device)
            # The processor decides what is written; `generate` stops when it has nothing more to say.
            chooser = _Chooser(row.answer, num_prompt_tokens=len(row.token_ids))
            config = GenerationConfig(
                max_new_tokens=row.answer.limit, do_sample=False, eos_token_id=None, pad_token_id=self._padding
            )
            with torch.inference_mode():
                self._model.generate(  # pyright: ignore[reportCallIssue] (the class says it is a tensor)
                    ids_1T,
                    attention_mask=torch.ones_like(ids_1T),
                    generation_config=config,
                    logits_processor=LogitsProcessorList([chooser]),
                    stopping_criteria=StoppingCriteriaList([chooser.is_done]),
                )

    @property
    def _padding(self) -> int:
        return min(self._loaded.stop_token_ids)

    def _edges(self, rows: Sequence[Sequence[int]], tree: ChoiceTree) -> Sequence[torch.Tensor]:
        with torch.inference_mode():
            return [self._edges_after(row, tree) for row in rows]

    def _edges_of_each(self, rows: Sequence[Sequence[int]], trees: Sequence[ChoiceTree]) -> Sequence[torch.Tensor]:
        with torch.inference_mode():
            return [self._edges_after(row, tree).cpu() for row, tree in zip(rows, trees, strict=True)]

    def _edges_after(self, row: Sequence[int], tree: ChoiceTree) -> torch.Tensor:
        """Log-probability of every node's token given its parent [N + 1], fp32, 0 where nothing else may follow."""
        edges_N = torch.zeros(len(tree.token_ids), device=self._model.device)
        paths = tree.paths_to_run()
        lengths = [len(row) + len(path) for path in paths]
        for group in token_groups(lengths, max_tokens=_MOST_TOKENS):
            some = paths[group.start : group.stop]
            texts = [[*row, *(tree.token_ids[node] for node in path)] for path in some]
            ids_BT, mask_BT = padded(texts, self._model.device)
            logits_BTV = self._model(input_ids=ids_BT, attention_mask=mask_BT, use_cache=False).logits
            for logits_TV, path in zip(logits_BTV, some, strict=True):
                for place, node in enumerate([0, *path]):
                    below = list(tree.children[node])
                    logits_V = logits_TV[len(row) - 1 + place].float()
                    edges_N[below] = logits_V[[tree.token_ids[child] for child in below]] - logits_V.logsumexp(-1)
        return edges_N


class _Chooser(LogitsProcessor):
    """Lets `generate` write what one answer takes."""

    def __init__(self, answer: AnswerInWriting, *, num_prompt_tokens: int) -> None:
        self._answer, self._num_prompt_tokens = answer, num_prompt_tokens

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Scores [1, V] that leave nothing but the token that the answer goes on with."""
        place = input_ids.shape[1] - self._num_prompt_tokens
        if place == len(self._answer.tokens):  # otherwise the next tokens were taken without a choice
            take_next([self._answer], scores.float())
        return torch.full_like(scores, float("-inf")).index_fill_(
            1, torch.tensor([self._answer.tokens[place]], device=scores.device), 0.0
        )

    def is_done(self, input_ids: torch.Tensor, _scores: object, **_others: object) -> torch.Tensor:
        """Whether all that the answer holds was written [1]."""
        num_written = input_ids.shape[1] - self._num_prompt_tokens
        done = not self._answer.is_open and num_written >= len(self._answer.tokens)
        return torch.tensor([done], device=input_ids.device)
