"""The greedy loop of engines that give logits, token by token: kept inside a JSON form where one is asked for.

Legend: B rows still being written, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fettle.answering.constrain import Constrainer
from fettle.answering.engine import GenerationOptions
from fettle.answering.writing import AnswerInWriting, Ending, take_next

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
    constrainer: Constrainer | None,
) -> list[list[int]]:
    """Greedy tokens of every row, at most as many as its limit, the stop token included where it was reached.

    Args:
        first_BV: Logits of the first token of each row.
        go_on: Runs new tokens of some rows; the logits after the last of each.
        limits: Tokens that each row may grow by, at least 1.
        stops: The tokens that end an answer.
        constrainer: The form that answers are kept in; None: they are free.
    """
    ending = Ending(stop_token_ids=stops, decode=lambda _: "")
    answers = [
        AnswerInWriting(limit, GenerationOptions(max_new_tokens=limit), ending, constrainer=constrainer)
        for limit in limits
    ]
    is_open, logits_BV = list(range(len(answers))), first_BV
    while is_open:
        taken = take_next([answers[row] for row in is_open], logits_BV)
        new = [GoesOn(row, tuple(tokens)) for row, tokens in zip(is_open, taken, strict=True) if answers[row].is_open]
        is_open = [one.row for one in new]
        if new:
            logits_BV = go_on(new)
    if error := next((answer.error for answer in answers if answer.error), None):
        raise error
    return [answer.tokens for answer in answers]
