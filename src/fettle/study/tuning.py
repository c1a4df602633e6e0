"""The way to a study's tuned model: settings are searched for, a model is trained, its adapter is tried at several strengths.

All of it looks at training and validation examples alone. What is not asked for is left out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from fettle.models.load import LoadedModel
from fettle.progress import Listener
from fettle.report_records import TrainingSummary
from fettle.study.forgetting_check import ForgettingCheck
from fettle.study.ladder import Ladder
from fettle.study.plan import Estimate
from fettle.study.settings_search import search_settings
from fettle.study.strength_sweep import sweep_strengths
from fettle.study.trained import Trained, trained_by, training_summary
from fettle.tuning_records import SettingsSearch, StrengthSweep

if TYPE_CHECKING:
    from fettle.study.planning import StudyPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class TunedModel:
    """What answers as the tuned contender, and how it came to be."""

    folder: Path
    plan: StudyPlan
    """The study, with the settings that the model was trained with."""
    trained: Trained | None = None
    """None: the study was given its model."""
    search: SettingsSearch | None = None
    sweep: StrengthSweep | None = None

    @property
    def strength(self) -> float:
        """Of its adapter; 1: as it was trained."""
        return 1.0 if self.sweep is None else self.sweep.chosen

    def training_summary(self) -> TrainingSummary | None:
        """What the report says of the training."""
        return None if self.trained is None else training_summary(self.plan, self.trained, self.folder)


def tuned_model(
    plan: StudyPlan,
    base: LoadedModel,
    ladder: Ladder,
    check: ForgettingCheck | None,
    listener: Listener,
    expected: Estimate | None,
) -> TunedModel:
    """The tuned model of a study: the one it was given, or one that is trained here.

    Args:
        plan: The study.
        base: The model that is trained, bare; it is bare again afterwards.
        ladder: Says how well the task is done on validation.
        check: Says what was forgotten; None: nobody looks.
        listener: Is told how far it is.
        expected: What the training is expected to take; None: its memory alone is planned.
    """
    if plan.given is not None:
        return TunedModel(folder=plan.given.folder, plan=plan)
    search = None
    if plan.settings.num_trials is not None:
        found = search_settings(plan, base, ladder, listener)
        search, expected = found.search, None
        plan = replace(plan, settings=replace(plan.settings, training=found.training))
    trained = trained_by(plan, base, listener, expected)
    tuned = TunedModel(folder=trained.result.tuned, plan=plan, trained=trained, search=search)
    if check is None or not _is_swept(plan, base):
        return tuned
    swept = sweep_strengths(plan, base, tuned.folder, ladder, check)
    return replace(tuned, folder=swept.folder, sweep=swept.sweep)


def _is_swept(plan: StudyPlan, base: LoadedModel) -> bool:
    """Whether the adapter is tried at several strengths; a divided model answers too slowly for it."""
    forgetting = plan.settings.forgetting
    is_wanted = forgetting is not None and forgetting.sweeps_strength
    return is_wanted and plan.settings.training.method.trains_adapter and base.division is None
