"""The greedy loop of engines that give logits, token by token: kept inside a JSON form where one is asked for.

Legend: B rows still being written, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fettle.answering.constrain import JsonConstrainer, mask_logits, take_forced_tokens, take_token

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class GoesOn:
    """A row that is not finished."""

    row: int
    """Its number."""
    tokens: tuple[int, ...]
    """What it was just given, one token or several."""


def write_greedily(
    first_BV: torch.Tensor,
    go_on: Callable[[Sequence[GoesOn]], torch.Tensor],
    *,
    limits: Sequence[int],
    stops: frozenset[int],
    constrainer: JsonConstrainer | None,
) -> list[list[int]]:
    """Greedy tokens of every row, at most as many as its limit, the stop token included where it was reached.

    Args:
        first_BV: Logits of the first token of each row.
        go_on: Runs new tokens of some rows; the logits after the last of each.
        limits: Tokens that each row may grow by, at least 1.
        stops: The tokens that end an answer.
        constrainer: The form that answers are kept in; None: they are free.
    """
    written: list[list[int]] = [[] for _ in limits]
    matchers = [constrainer.new_matcher() for _ in limits] if constrainer else []
    is_open = list(range(len(limits)))
    logits_BV = first_BV
    while is_open:
        if matchers:
            logits_BV = mask_logits([matchers[row] for row in is_open], logits_BV)
        new = []
        for row, token in zip(is_open, logits_BV.argmax(dim=-1).tolist(), strict=True):
            tokens = [token]
            if matchers and token not in stops:
                take_token(matchers[row], token)
                tokens += take_forced_tokens(matchers[row])
            tokens = tokens[: limits[row] - len(written[row])]
            written[row] += tokens
            if len(written[row]) < limits[row] and token not in stops:
                new.append(GoesOn(row, tuple(tokens)))
        is_open = [one.row for one in new]
        if new:
            logits_BV = go_on(new)
    return written
