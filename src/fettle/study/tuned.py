"""The tuned contender: what was trained, on the base that it was trained beside, and shown to answer otherwise."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from fettle.answering.engine import Engine
from fettle.contenders.language_model import LanguageModel
from fettle.contenders.prompt import OwnPrompt, bare_prompt
from fettle.files import sha256_of_file, sha256_of_json
from fettle.models.load import LoadedModel, load_model, named
from fettle.models.resolve import resolve_model
from fettle.report_records import TrainingSummary
from fettle.study.engines import StudyEngines
from fettle.training.base import base_of
from fettle.training.loop import TrainingResult, train
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

    prompts = [bare_prompt(example) for example in plan.split.valid[:NUM_CHECK_PROMPTS]]
    is_adapter = plan.settings.training.method.trains_adapter
    tuned = base if is_adapter else load_model(resolve_model(str(folder)), base.precision)
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


def tuned_arm(plan: StudyPlan, engine: Engine, folder: Path) -> LanguageModel:
    """The contender that answers with that engine."""
    return LanguageModel(
        name="tuned",
        title=_TITLES[plan.settings.training.method],
        engine=engine,
        style=OwnPrompt(),
        task=plan.data.task,
        options=plan.options,
        is_fine_tuned=True,
        engine_identity=sha256_of_json([sha256_of_file(file) for file in sorted(folder.glob("*.safetensors"))]),
    )


def training_summary(plan: StudyPlan, trained: TrainingResult) -> TrainingSummary:
    """What the report says of the training."""
    settings = asdict(plan.settings.training)
    lora = settings.pop("lora")
    if plan.settings.training.method.trains_adapter:
        settings |= {f"lora_{name}": value for name, value in lora.items()}
    base_weights = plan.settings.training.method.base_weights
    settings |= {
        "learning_rate": trained.learning_rate,
        "precision": plan.loaded.precision.value,
        "base_weights": base_weights.value,
        "prompted_weights": plan.loaded.base_weights.value,
    }
    return TrainingSummary(
        base_model=named(plan.loaded.source, base_weights),
        tuned_path=str(trained.tuned),
        settings=settings,
        loss_points=trained.loss_points,
        best_step=trained.best_step,
        num_steps=trained.num_steps,
        stopped_early=trained.stopped_early,
        num_train_examples=len(plan.split.train),
        num_trained_tokens=trained.num_trained_tokens,
        num_processed_tokens=trained.num_processed_tokens,
        seconds=trained.seconds,
        peak_memory_bytes=trained.peak_memory_bytes,
        planned=trained.planned,
    )


def share_training(plan: StudyPlan) -> None:
    """Take part in the training of a study that another process runs, as one of those that `torchrun` has started."""
    if plan.given is not None:
        return
    with base_of(plan.settings.training.method, plan.loaded) as base:
        train(
            base,
            plan.tokens.train,
            plan.tokens.valid,
            plan.settings.training,
            folder=plan.folder / "training",
            run_key=plan.key,
        )
