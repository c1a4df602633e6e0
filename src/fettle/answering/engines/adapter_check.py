"""An adapter that is to serve beside others is compared with PEFT's own layers, in a batch as it will be answered in."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from fettle.answering.engine import GenerationOptions
from fettle.answering.engines.running_batch import NOTHING_SHARED, Row, RunningBatch, prefilled
from fettle.answering.start_up_check import NUM_TOKENS, bound, difference, require_within, shortfall
from fettle.answering.writing import AnswerInWriting, Ending
from fettle.models.adapter import require_active
from fettle.models.load import LoadedModel
from fettle.models.own_attention import own_attention
from fettle.models.routed_adapters import Route, RoutedAdapters
from fettle.models.understood import own_logits


class AdapterCheck:
    """As `LocalEngine.require_as_trained`, for an adapter among several. To be used by the thread that runs the model.

    Args:
        loaded: The base model.
        adapters: Those beside it.
    """

    def __init__(self, loaded: LoadedModel, adapters: RoutedAdapters) -> None:
        self._loaded, self._model, self._adapters = loaded, loaded.model, adapters

    def require_as_trained(self, name: str, rows: Sequence[Sequence[int]]) -> float:
        """Show that an adapter changes the answers, and by what it was trained to; the largest difference, nats.

        Raises:
            IntegrityError: It does not.
        """
        with torch.inference_mode():
            references = {who: torch.stack([self._reference(row, who)[-1] for row in rows]) for who in (None, name)}
            ours = {who: self._first_logits(rows, who) for who in (None, name)}
            require_active(ours[None], ours[name], what=f"the adapter {name!r}")
            most = bound(difference(ours[None], references[None]), self._model.dtype)
            found = difference(ours[name], references[name])
            require_within(found, most, what=f"the adapter {name!r}")
            for row, tokens in zip(rows, self._first_tokens(rows, name), strict=True):
                reference_KV = self._reference([*row, *tokens[:-1]], name)[-len(tokens) :]
                require_within(shortfall(tokens, reference_KV), most, what=f"the adapter {name!r}")
        return found

    def _reference(self, row: Sequence[int], name: str | None) -> torch.Tensor:
        with self._adapters.as_peft_computes(name):
            return own_logits(self._model, row)

    def _first_logits(self, rows: Sequence[Sequence[int]], name: str | None) -> torch.Tensor:
        with own_attention(self._model), self._adapters.serving([Route(name, None)]):
            return prefilled(self._model, rows, NOTHING_SHARED)[1]

    def _first_tokens(self, rows: Sequence[Sequence[int]], name: str) -> list[list[int]]:
        """Greedy tokens of a batch in which the base model answers beside the adapter."""
        options = GenerationOptions(max_new_tokens=NUM_TOKENS)
        ending = Ending(stop_token_ids=self._loaded.stop_token_ids, decode=self._loaded.renderer.decode)
        answers = {who: [AnswerInWriting(NUM_TOKENS, options, ending) for _ in rows] for who in (None, name)}
        batch = RunningBatch(self._model, adapters=self._adapters)
        with own_attention(self._model):
            for who, of_whom in answers.items():
                batch.join([Row(row, answer) for row, answer in zip(rows, of_whom, strict=True)], adapter=who)
            while batch.num_open:
                batch.step()
        return [answer.tokens for answer in answers[name]]
