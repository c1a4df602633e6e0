"""The tuned contender: what was trained, on the base that it was trained beside, and shown to answer otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fettle.contenders.language_model import LanguageModel
from fettle.contenders.prompt import OwnPrompt, bare_prompt
from fettle.files import sha256_of_file, sha256_of_json
from fettle.models.load import LoadedModel, load_model
from fettle.models.resolve import resolve_model
from fettle.training.base import base_of
from fettle.training.loop import TrainingResult, train
from fettle.training.settings import Method

if TYPE_CHECKING:
    from fettle.answering.engines.local import LocalEngine
    from fettle.study.run import StudyPlan

_NUM_CHECK_PROMPTS = 4
_TITLES = {
    Method.LORA: "Fine-tuned (LoRA)",
    Method.QLORA: "Fine-tuned (QLoRA)",
    Method.FULL: "Fine-tuned (all weights)",
}


def tuned_engine(plan: StudyPlan, base: LoadedModel, trained: TrainingResult) -> LocalEngine:
    """The engine of what was trained, which has been shown to answer as trained, and otherwise than the base model.

    Args:
        plan: The study.
        base: The model that was trained, in the form in which it was.
        trained: What came of it.

    Raises:
        IntegrityError: It does not.
    """
    from fettle.answering.engines.plain import local_engine

    prompts = [bare_prompt(example) for example in plan.split.valid[:_NUM_CHECK_PROMPTS]]
    if plan.settings.training.method.trains_adapter:
        engine = local_engine(base, adapter=trained.tuned)
        engine.require_adapter_active(prompts)
    else:
        engine = local_engine(load_model(resolve_model(str(trained.tuned)), base.precision))
        engine.require_other_than(local_engine(base), prompts)
    engine.require_as_trained(prompts)
    return engine


def tuned_arm(plan: StudyPlan, engine: LocalEngine, trained: TrainingResult) -> LanguageModel:
    """The contender that answers with that engine."""
    return LanguageModel(
        name="tuned",
        title=_TITLES[plan.settings.training.method],
        engine=engine,
        style=OwnPrompt(),
        task=plan.data.task,
        options=plan.options,
        is_fine_tuned=True,
        engine_identity=sha256_of_json([sha256_of_file(file) for file in sorted(trained.tuned.glob("*.safetensors"))]),
    )


def share_training(plan: StudyPlan) -> None:
    """Take part in the training of a study that another process runs, as one of those that `torchrun` has started."""
    with base_of(plan.settings.training.method, plan.loaded) as base:
        train(
            base,
            plan.tokens.train,
            plan.tokens.valid,
            plan.settings.training,
            folder=plan.folder / "training",
            run_key=plan.key,
        )
