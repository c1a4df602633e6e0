from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fettle.records import TokenisedExample
from fettle.training.expected import expected_cost, num_evaluated_rows
from fettle.training.settings import TrainingSettings
from tuned_models import save_tuned_adapter


def rows(count: int) -> list[TokenisedExample]:
    return [
        TokenisedExample(
            example_id=f"e{number}",
            token_ids=tuple(20 + (number * 7 + place) % 50 for place in range(12)),
            is_trained=(False,) * 6 + (True,) * 6,
        )
        for number in range(count)
    ]


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, 5 * (1 + 2 * 3)),  # before the first step, then twice an epoch
        ({"evaluates_untrained": False}, 5 * 2 * 3),
        ({"evaluates_untrained": False, "quick_valid_rows": 2}, (2 + 5) * 3),
        ({"evals_per_epoch": 50, "evaluates_untrained": False}, 5 * 4 * 3),  # no more often than there are steps
    ],
)
def test_evaluated_rows_are_those_of_the_run(changed: dict[str, Any], expected: int) -> None:
    settings = TrainingSettings(epochs=3, batch_size=4, **changed)
    assert num_evaluated_rows(4, rows(5), settings) == expected


def test_without_validation_rows_nothing_is_evaluated() -> None:
    assert num_evaluated_rows(4, (), TrainingSettings()) == 0


def test_a_run_is_measured_and_nothing_is_kept(tiny_model: Callable[[str], Any], tmp_path: Path) -> None:
    loaded = tiny_model("qwen2")
    before = {name: weight.clone() for name, weight in loaded.model.named_parameters()}
    adapter = save_tuned_adapter(Path(loaded.source.path), tmp_path / "adapter")
    for start_from in (None, adapter):
        cost = expected_cost(
            loaded, rows(9), rows(2), TrainingSettings(epochs=2), start_from=start_from, price_per_hour=3.6
        )
        assert cost.num_tokens == 2 * 9 * 12
        assert cost.seconds > 0
        assert cost.price == pytest.approx(cost.seconds / 1000)
        assert cost.peak_memory_bytes > 0
        after = dict(loaded.model.named_parameters())
        assert after.keys() == before.keys()
        assert all(bool((after[name] == before[name]).all()) for name in before)
