"""How far a run of an eval is: kept with its job, and changed in the transaction that keeps its items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from fettle.jobs.eval_criteria import CriterionResult
from fettle.scoring.openai_grader import TokenUsage
from fettle.store.evals import ItemStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class CriterionCounts:
    """How often a criterion was met. What it could not be applied to counts as neither."""

    name: str
    passed: int = 0
    failed: int = 0

    def plus(self, result: CriterionResult) -> CriterionCounts:
        """With one more answer."""
        if result.error is not None:
            return self
        return replace(self, passed=self.passed + result.passed, failed=self.failed + (not result.passed))


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelUsage:
    """What was asked of a model."""

    num_requests: int = 0
    tokens: TokenUsage = field(default_factory=TokenUsage)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunProgress:
    """Counts of a run so far."""

    num_items: int
    criteria: tuple[CriterionCounts, ...]
    num_passed: int = 0
    num_failed: int = 0
    num_errored: int = 0
    usage: Mapping[str, ModelUsage] = field(default_factory=dict)

    @classmethod
    def of_nothing(cls, criteria: Sequence[str], *, num_items: int = 0) -> RunProgress:
        """Before the first item; `criteria` are their names."""
        return cls(num_items=num_items, criteria=tuple(CriterionCounts(name=name) for name in criteria))

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> RunProgress:
        """From what was kept."""
        usage = {
            model: ModelUsage(num_requests=used["num_requests"], tokens=TokenUsage(**used["tokens"]))
            for model, used in value["usage"].items()
        }
        criteria = tuple(CriterionCounts(**counts) for counts in value["criteria"])
        return cls(**dict(value) | {"criteria": criteria, "usage": usage})

    @property
    def as_json(self) -> dict[str, Any]:
        """What is kept."""
        return asdict(self)

    def plus_item(self, status: ItemStatus, results: Sequence[CriterionResult]) -> RunProgress:
        """With one more item; an item without a sample has no results."""
        criteria = self.criteria
        if results:
            criteria = tuple(counts.plus(result) for counts, result in zip(criteria, results, strict=True))
        return replace(
            self,
            criteria=criteria,
            num_passed=self.num_passed + (status is ItemStatus.PASS),
            num_failed=self.num_failed + (status is ItemStatus.FAIL),
            num_errored=self.num_errored + (status is ItemStatus.ERROR),
        )

    def plus_usage(self, model: str, tokens: TokenUsage) -> RunProgress:
        """With one more request to a model."""
        used = self.usage.get(model, ModelUsage())
        more = ModelUsage(num_requests=used.num_requests + 1, tokens=used.tokens.plus(tokens))
        return replace(self, usage={**self.usage, model: more})
