"""The tuned contender: what was trained, on the base that it was trained beside, and shown to answer otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from fettle.answering.engine import Engine
from fettle.contenders.contender import Contender
from fettle.contenders.language_model import LanguageModel
from fettle.contenders.retrieval import PassageReader, RetrievedPassages
from fettle.models.load import LoadedModel, load_model
from fettle.models.resolve import resolve_model
from fettle.models.strength import tuned_sha256
from fettle.study.arms import ArmFault, require_asked_as_trained, require_same_wording, told_as
from fettle.study.engines import StudyEngines
from fettle.training.settings import Method

if TYPE_CHECKING:
    from fettle.study.planning import StudyPlan

NUM_CHECK_PROMPTS = 4
_TITLES = {
    Method.LORA: "Fine-tuned (LoRA)",
    Method.QLORA: "Fine-tuned (QLoRA)",
    Method.FULL: "Fine-tuned (all weights)",
}


def tuned_engine(plan: StudyPlan, base: LoadedModel, folder: Path, engines: StudyEngines) -> Engine:
    """The engine of what was trained, which has been shown to answer as trained, and otherwise than the base model.

    Args:
        plan: The study.
        base: The model that was trained, in the form in which it was.
        folder: What came of it, in this study or before.
        engines: Makes the engine that answers, where it is not the reference.

    Raises:
        IntegrityError: It does not.
    """
    from fettle.answering.engines.plain import local_engine

    prompts = [plan.prompt(example) for example in plan.split.valid[:NUM_CHECK_PROMPTS]]
    is_adapter = plan.settings.training.method.trains_adapter
    with told_as(ArmFault.NOT_LOADED, otherwise=ArmFault.OTHER_THAN_TRAINED):
        tuned = trained_on(base, folder, is_adapter=is_adapter)
        require_same_wording(tuned, base)
        reference = local_engine(tuned, adapter=folder if is_adapter else None)
        if is_adapter:
            reference.require_adapter_active(prompts)
        else:
            reference.require_other_than(local_engine(base), prompts)
        reference.require_as_trained(prompts)
        if engines.is_reference:
            return reference
        try:
            return engines.tuned(tuned, folder, reference.name, is_adapter=is_adapter)
        finally:
            reference.close()


def trained_on(base: LoadedModel, folder: Path, *, is_adapter: bool) -> LoadedModel:
    """The model that what was trained answers with: the one that it was trained beside, or the one that it is."""
    return base if is_adapter else load_model(resolve_model(str(folder)), base.precision)


@contextmanager
def answering(plan: StudyPlan, base: LoadedModel, folder: Path) -> Iterator[Engine]:
    """The reference engine of something that was trained on the way, unchecked; the base model is bare again afterwards."""
    from fettle.answering.engines.plain import local_engine

    is_adapter = plan.settings.training.method.trains_adapter
    engine = local_engine(trained_on(base, folder, is_adapter=is_adapter), adapter=folder if is_adapter else None)
    try:
        yield engine
    finally:
        engine.close()


def tuned_arm(
    plan: StudyPlan, engine: Engine, folder: Path, *, name: str | None = None, with_log_probs: bool = False
) -> Contender:
    """The contender that answers with that engine.

    Args:
        plan: The study.
        engine: Of what was trained.
        folder: What was trained.
        name: The contender's key; None: that of the plan.
        with_log_probs: Whether its written answers tell the log-probability of each token.

    Raises:
        IntegrityError: It would be asked with other tokens than it was trained on.
    """
    is_shown_passages = isinstance(plan.style, RetrievedPassages)
    model = LanguageModel(
        name=name or plan.arm,
        title=_TITLES[plan.settings.training.method] + (", with passages" if is_shown_passages else ""),
        engine=engine,
        style=plan.style,
        task=plan.data.task,
        options=replace(plan.options, num_top_log_probs=0) if with_log_probs else plan.options,
        is_fine_tuned=True,
        engine_identity=tuned_sha256(folder),
    )
    require_asked_as_trained(model, plan.loaded.renderer, plan.split.valid, plan.tokens.valid)
    return PassageReader(model=model) if is_shown_passages else model
