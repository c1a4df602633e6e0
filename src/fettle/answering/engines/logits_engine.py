"""What the engines have in common that give the logits of all tokens: likely tokens, JSON forms and choices come from those.

Legend: B rows, N tree nodes, V vocabulary.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

from fettle.answering.choices import ChoiceTree
from fettle.answering.constrain import Constrainer, Constrainers
from fettle.answering.engine import JsonForm
from fettle.answering.engines.greedy import GoesOn, write_greedily
from fettle.answering.engines.token_engine import NUM_LIKELY, TokenEngine

if TYPE_CHECKING:
    import torch


class Sequences(Protocol):
    """Rows in an engine's cache."""

    def prefill(self) -> torch.Tensor:
        """Run the prompts; the logits [B, V] of what follows each, fp32."""
        ...

    def go_on(self, new: Sequence[GoesOn]) -> torch.Tensor:
        """Run new tokens of some rows, which are all that will be gone on with; the logits [B, V] after the last of each."""
        ...


class LogitsEngine(TokenEngine):
    """An engine that gives logits; see `TokenEngine`."""

    @cached_property
    def _constrainers(self) -> Constrainers:
        return Constrainers(
            self._renderer.tokenizer,
            end_of_turn_id=self._renderer.end_of_turn_id,
            vocabulary_size=self.num_words,
        )

    @property
    @abstractmethod
    def num_words(self) -> int:
        """Width of the logits."""

    @abstractmethod
    @contextmanager
    def sequences(self, rows: Sequence[Sequence[int]], limits: Sequence[int]) -> Iterator[Sequences]:
        """A cache with room for some rows and for what they may grow by."""
        ...

    def first_log_probs(self, rows: Sequence[Sequence[int]]) -> list[Mapping[int, float]]:
        """After each row the likeliest next tokens with their natural-log probabilities."""
        with self.sequences(rows, [0] * len(rows)) as sequences:
            log_probs_BV = sequences.prefill().log_softmax(-1)
        likely = log_probs_BV.topk(min(NUM_LIKELY, log_probs_BV.shape[-1]))
        return [
            dict(zip(tokens, values, strict=True))
            for tokens, values in zip(likely.indices.tolist(), likely.values.tolist(), strict=True)
        ]

    def written(self, rows: Sequence[Sequence[int]], limits: Sequence[int]) -> list[list[int]]:
        """Greedy tokens after each row, the stop token included where it was reached."""
        return self._write(rows, limits, None)

    def written_in_form(self, rows: Sequence[Sequence[int]], limits: Sequence[int], form: JsonForm) -> list[list[int]]:
        """The same, kept inside a JSON form."""
        return self._write(rows, limits, self._constrainers.of(form))

    def _write(
        self, rows: Sequence[Sequence[int]], limits: Sequence[int], constrainer: Constrainer | None
    ) -> list[list[int]]:
        with self.sequences(rows, limits) as sequences:
            return write_greedily(
                sequences.prefill(),
                sequences.go_on,
                limits=limits,
                stops=self.stop_token_ids,
                constrainer=constrainer,
            )


def fill_edges(edges_N: torch.Tensor, tree: ChoiceTree, node: int, logits_V: torch.Tensor) -> None:
    """Put in the log-probabilities of the nodes below `node`, given the logits after it."""
    below = list(tree.children[node])
    edges_N[below] = logits_V[[tree.token_ids[child] for child in below]] - logits_V.logsumexp(-1)
