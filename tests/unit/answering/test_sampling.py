"""Tokens are drawn as the settings say."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch

from fettle.answering.sampling import Sampling, TokenChooser
from fettle.errors import ConfigError

LOGITS = torch.tensor([2.0, 1.0, 0.5, -1.0, -6.0])


def drawn(sampling: Sampling, count: int = 4000) -> torch.Tensor:
    chooser = TokenChooser(sampling)
    counts = Counter(chooser.chosen(chooser.moved(LOGITS)) for _ in range(count))
    return torch.tensor([counts[token] / count for token in range(len(LOGITS))])


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_tokens_come_as_often_as_they_are_probable(temperature: float) -> None:
    expected = (LOGITS / temperature).softmax(-1)
    assert float((drawn(Sampling(temperature=temperature)) - expected).abs().max()) < 0.03


def test_top_p_and_top_k_draw_from_the_likeliest_alone() -> None:
    probable = LOGITS.softmax(-1)
    for sampling, kept in ((Sampling(temperature=1, top_k=2), 2), (Sampling(temperature=1, top_p=0.7), 2)):
        found = drawn(sampling)
        assert float(found[kept:].sum()) == 0.0
        assert float((found[:kept] - probable[:kept] / probable[:kept].sum()).abs().max()) < 0.03


def test_bias_and_penalties_move_the_likeliest_token() -> None:
    assert TokenChooser(Sampling()).chosen(LOGITS) == 0
    biased = TokenChooser(Sampling(logit_bias={4: 100.0, 0: -100.0}))
    assert biased.chosen(biased.moved(LOGITS)) == 4
    assert torch.equal(LOGITS, torch.tensor([2.0, 1.0, 0.5, -1.0, -6.0])), "the model's logits stay as they are"
    for penalised, num_until in ((Sampling(presence_penalty=1.5), 1), (Sampling(frequency_penalty=0.4), 3)):
        chooser = TokenChooser(penalised)
        for number in range(num_until):
            assert chooser.chosen(chooser.moved(LOGITS)) == 0, number
            chooser.took([0])
        assert chooser.chosen(chooser.moved(LOGITS)) == 1


def test_a_seed_draws_the_same_again_and_answers_of_one_seed_differ() -> None:
    def first(seed: int, row: int) -> list[int]:
        chooser = TokenChooser(Sampling(temperature=1.0, seed=seed), row=row)
        return [chooser.chosen(LOGITS) for _ in range(40)]

    assert first(7, 0) == first(7, 0)
    assert len({tuple(first(seed, row)) for seed in (7, 8, -1) for row in (0, 1)}) == 6


@pytest.mark.parametrize(
    "wrong",
    [{"temperature": 2.1}, {"temperature": float("nan")}, {"top_p": 0.0}, {"top_k": 0}, {"logit_bias": {3: 101}}],
)
def test_what_cannot_be_drawn_from_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Sampling(**wrong)
