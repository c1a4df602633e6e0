"""The tuned contenders of a study: trained one after the other, chosen among on validation, and asked again for the test split.

One base model is in memory, and what was trained lies on it for as long as it answers: never two at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from fettle.answering.engine import Engine
from fettle.contenders.contender import Contender
from fettle.models.load import LoadedModel
from fettle.progress import Listener
from fettle.report_records import Forgetting
from fettle.study.arms import require_trained_weights
from fettle.study.engines import StudyEngines
from fettle.study.forgetting_check import ForgettingCheck
from fettle.study.ladder import Ladder, Rung, by_validation
from fettle.study.plan import Estimate
from fettle.study.tuned import tuned_arm, tuned_engine
from fettle.study.tuning import TunedModel, tuned_model

if TYPE_CHECKING:
    from fettle.study.planning import StudyPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class Making:
    """What all tuned contenders of a study are made with."""

    base: LoadedModel
    """The model that is trained, bare between two of them."""
    base_engine: Engine
    """Of the contenders without fine-tuning."""
    engines: StudyEngines
    ladder: Ladder
    listener: Listener
    expected: Estimate | None
    """What one training is expected to take; None: its memory alone is planned."""


class TunedArm:
    """A tuned contender, judged on validation; its engine is open until it is closed, and can be opened again.

    Args:
        plan: Of this contender.
        making: What it is made with.
    """

    def __init__(self, plan: StudyPlan, making: Making) -> None:
        self.plan, self._making = plan, making
        self.check: ForgettingCheck | None = None
        ladder = making.ladder if plan.is_main else replace(making.ladder, folder=plan.folder)
        if plan.settings.forgetting is not None:
            self.check = ForgettingCheck(plan, plan.folder, making.listener)
            self.check.ask_base(making.base_engine)
        expected = making.expected if plan.is_main else None  # it is of prompts without passages
        self.model: TunedModel = tuned_model(plan, making.base, ladder, self.check, making.listener, expected)
        require_trained_weights(self.model)
        self._engine: Engine | None = self._opened()
        self.rung: Rung = making.ladder.best([self._contender(self._engine)])

    @property
    def name(self) -> str:
        """The contender's key."""
        return self.plan.arm

    @property
    def folder(self) -> Path:
        """What was trained."""
        return self.model.folder

    def open(self) -> Rung:
        """The contender with an engine that answers."""
        if self._engine is None:
            self._engine = self._opened()
            self.rung = replace(self.rung, contender=self._contender(self._engine))
        return self.rung

    def close(self) -> None:
        """Have the base model bare again."""
        if self._engine is not None:
            self._engine.close()
            self._engine = None

    def forgotten(self) -> Forgetting | None:
        """What it has forgotten; None: nobody asked. It is closed afterwards."""
        if self.check is None:
            return None
        rung = self.open()
        assert self._engine is not None, "opened above"
        identity = rung.contender.identity()
        replies = self.check.ask_tuned(self._engine, identity, strength=self.model.strength)
        self.close()
        harness = self.check.harness(self._making.base, self.folder, identity)
        return self.check.found(replies, self.check.divergence(self._making.base, self.folder), harness)

    def _contender(self, engine: Engine) -> Contender:
        return tuned_arm(self.plan, engine, self.folder, with_log_probs=self.plan.is_confidence_asked)

    def _opened(self) -> Engine:
        return tuned_engine(self.plan, self._making.base, self.folder, self._making.engines)


def made_arms(plans: Sequence[StudyPlan], making: Making) -> tuple[TunedArm, ...]:
    """The tuned contenders, the best on validation first; the first of equals. Of several none is open."""
    arms: list[TunedArm] = []
    for plan in plans:
        if arms:
            arms[-1].close()
        arms.append(TunedArm(plan, making))
    if len(arms) > 1:
        arms[-1].close()
    return tuple(sorted(arms, key=lambda arm: by_validation(arm.rung), reverse=True))
