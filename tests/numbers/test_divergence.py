"""KL(base ‖ tuned) from packed passes, against dense computations by the models' own forward and PEFT's own layers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_start_up_check import adapter_folder

from fettle.forgetting.divergence import (
    adapter_sides,
    answered_rows,
    mean_divergence,
    model_sides,
    token_divergences,
)
from fettle.models.adapter import put_on, require_bare, unload_adapters
from fettle.models.understood import own_logits
from fettle.records import Answer, FinishReason, Message, Prompt, TokenisedExample, Usage
from fettle.statistics.ratio_bootstrap import positive_mean_interval
from tiny_models import load_tiny_model, save_tiny_model, save_unknown_model


def rows_of(lengths: list[tuple[int, int]], *, num_shared: int) -> list[TokenisedExample]:
    """Rows with so many tokens asked and said, that begin with the same tokens."""
    random = np.random.default_rng(5)
    made = []
    for place, (num_asked, num_said) in enumerate(lengths):
        asked = (*range(20, 20 + num_shared), *random.integers(60, 300, num_asked).tolist())
        said = tuple(random.integers(60, 300, num_said).tolist())
        flags = (False,) * len(asked) + (True,) * num_said
        made.append(TokenisedExample(example_id=str(place), token_ids=asked + said, is_trained=flags))
    return made


ROWS = rows_of([(3, 4), (9, 1), (1, 7), (14, 2), (2, 12)], num_shared=19)


def dense_log_probs(model: Any, row: TokenisedExample) -> torch.Tensor:
    with torch.no_grad():
        logits_TV = own_logits(model, row.token_ids)
    first = row.is_trained.index(True)
    return logits_TV[first - 1 : -1].double().log_softmax(-1)


def dense(base: list[torch.Tensor], tuned: list[torch.Tensor]) -> list[list[float]]:
    return [(p.exp() * (p - q)).sum(-1).tolist() for p, q in zip(base, tuned, strict=True)]


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma3_narrow", "mistral_narrow"])
@pytest.mark.parametrize(("num_shared", "max_tokens"), [(19, 2048), (19, 60), (0, 2048)])
def test_packed_passes_give_what_dense_ones_give(
    family: str, num_shared: int, max_tokens: int, tiny_model: Callable[[str], Any], tmp_path: Path
) -> None:
    loaded, rows = tiny_model(family), rows_of([(3, 4), (9, 1), (1, 7), (14, 2), (2, 12)], num_shared=num_shared)
    folder = adapter_folder(loaded, tmp_path)
    base = [dense_log_probs(loaded.model, row) for row in rows]
    peft = put_on(loaded, folder, name="dense")
    tuned = [dense_log_probs(loaded.model, row) for row in rows]
    unload_adapters(peft)
    with adapter_sides(loaded, folder) as sides:
        found = token_divergences(rows, sides, max_tokens=max_tokens)
    require_bare(loaded.model)
    assert [len(row) for row in found] == [4, 1, 7, 2, 12]
    for ours, theirs in zip(found, dense(base, tuned), strict=True):
        assert min(theirs) > 1e-3  # the adapter changes something
        assert ours == pytest.approx(theirs, rel=2e-3, abs=2e-5)


def test_a_model_that_packed_rows_do_not_fit_is_run_plainly(tmp_path: Path) -> None:
    loaded = load_tiny_model(save_unknown_model(tmp_path / "model", "lfm2"))
    assert loaded.plain_reason is not None
    folder = adapter_folder(loaded, tmp_path / "adapter")
    base = [dense_log_probs(loaded.model, row) for row in ROWS]
    with adapter_sides(loaded, folder) as sides:
        tuned = [dense_log_probs(loaded.model, row) for row in ROWS]
        found = token_divergences(ROWS, sides)
    for ours, theirs in zip(found, dense(base, tuned), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-3, abs=1e-6)


def test_two_models_are_compared_in_one_direction(tiny_model: Callable[[str], Any], tmp_path: Path) -> None:
    base, other = tiny_model("llama"), load_tiny_model(save_tiny_model(tmp_path, "llama", seed=3))
    there = token_divergences(ROWS, model_sides(base, other))
    back = token_divergences(ROWS, model_sides(other, base))
    expected = dense(*([dense_log_probs(one.model, row) for row in ROWS] for one in (base, other)))
    assert list(there[0]) == pytest.approx(expected[0], rel=2e-3)
    assert list(back[0]) != pytest.approx(expected[0], rel=0.05)


def test_a_model_does_not_differ_from_itself(tiny_model: Callable[[str], Any]) -> None:
    loaded = tiny_model("llama")
    assert {value for row in token_divergences(ROWS, model_sides(loaded, loaded)) for value in row} == {0.0}


def test_the_end_of_turn_belongs_to_answers_that_ended_by_themselves(tiny_model: Callable[[str], Any]) -> None:
    renderer = tiny_model("llama").renderer
    prompts = [Prompt(example_id=name, messages=(Message(role="user", content="Hi"),)) for name in "abc"]
    ended, cut, failed = (
        Answer(
            example_id=prompt.example_id,
            text="" if reason is FinishReason.ERROR else "late parcel",
            finish_reason=reason,
            usage=Usage(prompt_tokens=1, completion_tokens=1, seconds=0.0),
        )
        for prompt, reason in zip(prompts, (FinishReason.STOP, FinishReason.LENGTH, FinishReason.ERROR), strict=True)
    )
    rows = answered_rows(renderer, prompts, [ended, cut, failed])
    asked, said = renderer.prompt_tokens(prompts[0].messages), renderer.answer_tokens("late parcel")
    assert [row.example_id for row in rows] == ["a", "b"]
    assert [row.token_ids for row in rows] == [asked + said, asked + said[:-1]]
    assert [row.num_trained_tokens for row in rows] == [len(said), len(said) - 1]
    assert rows[0].token_ids[-1] == renderer.end_of_turn_id


def test_the_mean_is_over_tokens_and_its_interval_over_clusters_of_inputs() -> None:
    random = np.random.default_rng(0)
    clusters = np.repeat(np.arange(30), 2)
    level = random.gamma(2.0, 0.2, size=30)[clusters]
    divergences = [random.gamma(2.0, mean / 2, size=random.integers(1, 12)).tolist() for mean in level]
    nats = [value for row in divergences for value in row]
    found = mean_divergence(divergences, clusters.tolist(), seed=1)
    assert found.nats == pytest.approx(sum(nats) / len(nats))
    assert (found.num_inputs, found.num_tokens) == (60, len(nats))
    of_tokens = np.repeat(clusters, [len(row) for row in divergences])
    assert found.interval == positive_mean_interval(nats, of_tokens.tolist(), seed=1)
    as_if_alone = mean_divergence(divergences, range(60), seed=1).interval
    assert found.interval is not None
    assert as_if_alone is not None
    assert found.interval.high - found.interval.low > 1.1 * (as_if_alone.high - as_if_alone.low)


def test_one_cluster_says_nothing_of_the_spread() -> None:
    assert mean_divergence([[0.1, 0.2], [0.4]], [7, 7], seed=0).interval is None
