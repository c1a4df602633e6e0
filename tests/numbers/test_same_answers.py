"""The check of engines that hold the weights themselves: a right one passes, planted faults do not."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from engine_cases import NUM_BEFORE_END, Case, make_case

from fettle.answering.same_answers import Reference, require_same_answers
from fettle.errors import IntegrityError


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return make_case(tmp_path_factory.mktemp("case"), "llama")


@dataclass
class FakeEngine:
    """Computes by itself what the check asks for, with whatever fault is planted."""

    logits: Reference
    stops: frozenset[int]
    changed: Callable[[Sequence[int]], Sequence[int]] = tuple
    """What is done to the tokens that are handed over."""
    name: str = "fake"

    def first_log_probs(self, rows: Sequence[Sequence[int]]) -> list[Mapping[int, float]]:
        found: list[Mapping[int, float]] = []
        for row in rows:
            likely = self.logits(self.changed(row))[-1].log_softmax(-1).topk(20)
            found.append(dict(zip(likely.indices.tolist(), likely.values.tolist(), strict=True)))
        return found

    def written(self, rows: Sequence[Sequence[int]], limits: Sequence[int]) -> list[list[int]]:
        return [self._write(self.changed(row), limit) for row, limit in zip(rows, limits, strict=True)]

    def _write(self, row: Sequence[int], limit: int) -> list[int]:
        tokens: list[int] = []
        while len(tokens) < limit and not set(tokens) & self.stops:
            tokens.append(int(self.logits([*row, *tokens])[-1].argmax()))
        return tokens


def engine(case: Case, **changes: Any) -> FakeEngine:
    return replace(FakeEngine(case.reference(), case.loaded.stop_token_ids), **changes)


def test_an_engine_that_answers_as_the_reference_passes(case: Case) -> None:
    assert require_same_answers(engine(case), case.expected(), case.rows()) < 1e-6
    untuned = engine(case, logits=case.reference(is_tuned=False))
    assert require_same_answers(untuned, case.expected(is_tuned=False), case.rows()) < 1e-6


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_an_engine_that_leaves_the_adapter_out_is_refused_however_coarsely_it_computes(
    case: Case, dtype: torch.dtype
) -> None:
    base = engine(case, logits=case.reference(is_tuned=False))
    with pytest.raises(IntegrityError, match="what was trained is left out"):
        require_same_answers(base, case.expected(dtype, noise=100.0), case.rows())


def test_half_an_adapter_is_refused(case: Case) -> None:
    def halfway(row: Sequence[int]) -> torch.Tensor:
        return 0.6 * case.reference()(row) + 0.4 * case.reference(is_tuned=False)(row)

    with pytest.raises(IntegrityError, match=r"log-probabilities differ by .* at most 0.005"):
        require_same_answers(engine(case, logits=halfway), case.expected(), case.rows())


def test_another_template_around_the_prompt_is_refused(case: Case) -> None:
    for changed in (lambda row: row[1:], lambda row: row[:-1], lambda row: [row[0], *row]):
        with pytest.raises(IntegrityError, match="does not answer as the reference does"):
            require_same_answers(engine(case, changed=changed), case.expected(), case.rows())


def test_an_engine_that_does_not_stop_at_the_end_of_an_answer_is_refused(case: Case) -> None:
    with pytest.raises(IntegrityError, match="goes on after the end of turn"):
        require_same_answers(engine(case, stops=frozenset()), case.expected(), case.rows())


def test_the_end_of_an_answer_longer_than_what_is_written_is_looked_at_too(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fettle.answering.same_answers.NUM_TOKENS", NUM_BEFORE_END - 2)
    assert require_same_answers(engine(case), case.expected(), case.rows()) < 1e-6
    with pytest.raises(IntegrityError, match="goes on after the end of turn"):
        require_same_answers(engine(case, stops=frozenset()), case.expected(), case.rows())


def test_an_engine_that_stops_at_another_token_is_refused(case: Case) -> None:
    stops = case.loaded.stop_token_ids | {case.rows()[1].answer[1]}
    with pytest.raises(IntegrityError, match="has not written an end of turn"):
        require_same_answers(engine(case, stops=stops), case.expected(), case.rows())


def test_an_engine_that_takes_an_unlikely_token_is_refused(case: Case) -> None:
    class Second(FakeEngine):
        def _write(self, row: Sequence[int], limit: int) -> list[int]:
            return super()._write([*row, 5], limit)

    second = Second(case.reference(), case.loaded.stop_token_ids)
    with pytest.raises(IntegrityError, match="less likely than the likeliest one"):
        require_same_answers(second, case.expected(), case.rows())


def test_what_is_not_a_number_is_no_answer(case: Case) -> None:
    class Broken(FakeEngine):
        def first_log_probs(self, rows: Sequence[Sequence[int]]) -> list[Mapping[int, float]]:
            return [{token: float("nan") for token in said} for said in super().first_log_probs(rows)]

    for broken in (Broken, type("Silent", (FakeEngine,), {"first_log_probs": lambda self, rows: [{} for _ in rows]})):
        with pytest.raises(IntegrityError):
            require_same_answers(broken(case.reference(), case.loaded.stop_token_ids), case.expected(), case.rows())


def test_the_message_names_the_engine_and_what_to_do(case: Case) -> None:
    with pytest.raises(IntegrityError) as raised:
        require_same_answers(engine(case, changed=lambda row: row[1:]), case.expected(), case.rows())
    assert raised.value.problem.startswith("fake does not answer")
    assert raised.value.remedy is not None
    assert "the reference answers" in raised.value.remedy
