"""How the next token of an answer is chosen from the model's logits: the likeliest one, or drawn.

Each row has its own random numbers, so what it says does not depend on which rows are in the batch with it.

Legend: B rows, V vocabulary.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from fettle.errors import require_range

if TYPE_CHECKING:
    import torch

_MOST_TEMPERATURE = 2.0
_MOST_PENALTY = 2.0
MOST_BIAS = 100.0
"""What OpenAI's API takes; so much forbids or forces a token."""
_FORCED = 100.0
"""What such a bias is multiplied with, so that it is far beyond any logit, and still finite beside a form's mask."""
MOST_TOP = 20
"""Alternatives that may be asked for with each token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How tokens are chosen. As it comes the likeliest one is: the same prompt gives the same answer.

    Names and ranges are those of OpenAI's chat completions.
    """

    temperature: float = 0.0
    """Logits are divided by it, 0 to 2; 0: the likeliest token."""
    top_p: float = 1.0
    """Draw from the fewest tokens whose probabilities reach this (Holtzman et al. 2020)."""
    top_k: int | None = None
    """Draw from so many of the likeliest tokens; None: from all."""
    seed: int = 0
    """The same seed draws the same answer."""
    presence_penalty: float = 0.0
    """Taken off the logit of a token that the answer holds already, -2 to 2."""
    frequency_penalty: float = 0.0
    """Taken off as often as the answer holds the token, -2 to 2."""
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    """Added to the logits of some tokens, -100 to 100."""

    def __post_init__(self) -> None:
        """Refuse what cannot be drawn from.

        Raises:
            ConfigError: A value is out of its range.
        """
        require_range("temperature", self.temperature, low=0, high=_MOST_TEMPERATURE)
        require_range("top_p", self.top_p, low=1e-6, high=1)
        if self.top_k is not None:
            require_range("top_k", self.top_k, low=1)
        require_range("seed", self.seed, low=-(2**63), high=2**63 - 1)
        require_range("presence_penalty", self.presence_penalty, low=-_MOST_PENALTY, high=_MOST_PENALTY)
        require_range("frequency_penalty", self.frequency_penalty, low=-_MOST_PENALTY, high=_MOST_PENALTY)
        for bias in self.logit_bias.values():
            require_range("logit_bias", bias, low=-MOST_BIAS, high=MOST_BIAS)

    @property
    def is_plain(self) -> bool:
        """The model's likeliest token is taken, whatever was written before."""
        return self.temperature == 0.0 and not self.changes_logits

    @property
    def changes_logits(self) -> bool:
        """Some logits are moved before a token is chosen."""
        return bool(self.presence_penalty or self.frequency_penalty or self.logit_bias)


class TokenChooser:
    """Chooses the tokens of one answer."""

    def __init__(self, sampling: Sampling, *, row: int = 0) -> None:
        """`row` tells answers to one prompt apart that are drawn with one seed."""
        self.sampling, self._row = sampling, row
        self._counts: Counter[int] = Counter()

    def moved(self, logits_V: torch.Tensor) -> torch.Tensor:
        """Logits with bias and penalties; the given ones where there are none."""
        import torch

        sampling = self.sampling
        if not sampling.changes_logits:
            return logits_V
        moves = {
            token: _FORCED * bias if abs(bias) == MOST_BIAS else bias for token, bias in sampling.logit_bias.items()
        }
        for token, count in self._counts.items():
            penalty = sampling.presence_penalty + sampling.frequency_penalty * count
            moves[token] = moves.get(token, 0.0) - penalty
        if not moves:
            return logits_V
        amounts = torch.tensor(list(moves.values()), dtype=logits_V.dtype, device=logits_V.device)
        return logits_V.index_add(0, torch.tensor(list(moves), device=logits_V.device), amounts)

    def chosen(self, logits_V: torch.Tensor) -> int:
        """A token, from logits that were moved and masked."""
        import torch

        if self.sampling.temperature == 0.0:
            return int(logits_V.argmax())
        scores_1V = logits_V[None].float()
        for warp in self._warpers:
            scores_1V = warp(None, scores_1V)
        return int(torch.multinomial(scores_1V.softmax(-1)[0].cpu(), 1, generator=self._generator))

    def took(self, tokens: Sequence[int]) -> None:
        """These tokens, which were chosen or forced, are part of the answer."""
        if self.sampling.changes_logits:
            self._counts.update(tokens)

    @cached_property
    def _warpers(self) -> list[Callable[[None, torch.Tensor], torch.Tensor]]:
        from transformers.generation.logits_process import (
            TemperatureLogitsWarper,
            TopKLogitsWarper,
            TopPLogitsWarper,
        )

        sampling = self.sampling
        warpers: list[Callable[..., torch.Tensor]] = [TemperatureLogitsWarper(float(sampling.temperature))]
        if sampling.top_k is not None:
            warpers.append(TopKLogitsWarper(sampling.top_k))
        if sampling.top_p < 1.0:
            warpers.append(TopPLogitsWarper(sampling.top_p))
        return warpers

    @cached_property
    def _generator(self) -> torch.Generator:
        import torch

        return torch.Generator().manual_seed((self.sampling.seed + 0x9E3779B9 * self._row) % 2**63)
