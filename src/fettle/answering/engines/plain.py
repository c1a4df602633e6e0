"""The plain engine: the library's own forward and `generate`, one prompt after the other, for models that packed rows do not fit.

Slower, and right for every causal model that transformers knows: nothing is padded before a prompt, so layers with a state of their
own (Mamba, short convolutions) see what they see in training.

Legend: N tree nodes, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from fettle.answering.choices import ChoiceTree
from fettle.answering.constrain import JsonConstrainer, mask_logits, take_token
from fettle.answering.engines.local import LocalEngine
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

    def _written(
        self, rows: Sequence[Sequence[int]], max_new_tokens: int, constrainer: JsonConstrainer | None
    ) -> list[list[int]]:
        limits = self._limits_of(rows, max_new_tokens)
        written = []
        for row, limit in zip(rows, limits, strict=True):
            ids_1T = torch.tensor([row], device=self._model.device)
            stops = sorted(self._loaded.stop_token_ids)
            config = GenerationConfig(max_new_tokens=limit, do_sample=False, eos_token_id=stops, pad_token_id=stops[0])
            processors = [_Constrained(constrainer, len(row), self._loaded.stop_token_ids)] if constrainer else []
            with torch.inference_mode():
                out = self._model.generate(  # pyright: ignore[reportCallIssue] (the class says it is a tensor)
                    ids_1T,
                    attention_mask=torch.ones_like(ids_1T),
                    generation_config=config,
                    logits_processor=LogitsProcessorList(processors),
                )
            written.append(out[0, len(row) :].tolist())  # pyright: ignore[reportIndexIssue] (a tensor, as nothing else was asked for)
        return written

    def _edges(self, rows: Sequence[Sequence[int]], tree: ChoiceTree) -> Sequence[torch.Tensor]:
        with torch.inference_mode():
            return [self._edges_after(row, tree) for row in rows]

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


class _Constrained(LogitsProcessor):
    """Keeps one answer inside a JSON form while `generate` writes it."""

    def __init__(self, constrainer: JsonConstrainer, num_prompt_tokens: int, stops: frozenset[int]) -> None:
        self._matcher, self._num_taken, self._stops = constrainer.new_matcher(), num_prompt_tokens, stops

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """The scores [1, V] of the next token, with -inf for what the form forbids."""
        for token in input_ids[0, self._num_taken :].tolist():
            if token not in self._stops:
                take_token(self._matcher, token)
        self._num_taken = input_ids.shape[1]
        return mask_logits([self._matcher], scores.float())
