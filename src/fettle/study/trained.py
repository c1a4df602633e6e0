"""The training of a study: the task's own examples and a few general ones, which the base model answers itself."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fettle.files import write_atomically
from fettle.forgetting.replay import Replay, replayed
from fettle.models.load import LoadedModel, named
from fettle.progress import Listener, Stage
from fettle.records import Example, Location, Message
from fettle.report_records import TrainingSummary
from fettle.settings import get_settings
from fettle.study.arms import require_fair_rows
from fettle.study.plan import Estimate
from fettle.study.progress import training_listener
from fettle.training.base import base_of
from fettle.training.loop import TrainingResult, train

if TYPE_CHECKING:
    from fettle.study.planning import StudyPlan

_REPLAY = "replay.json"
_SECONDS_BETWEEN_LOOKS = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What a study has trained."""

    result: TrainingResult
    replay: tuple[Example, ...]
    """General examples among those that were learned from."""


def trained_by(plan: StudyPlan, base: LoadedModel, listener: Listener, expected: Estimate | None) -> Trained:
    """Train, or go on where an earlier run of the study was cut off.

    Args:
        plan: The study.
        base: The model that is trained, bare.
        listener: Is told how far it is.
        expected: What the training is expected to take; None: its memory alone is planned.
    """
    replay = _replay(plan, base, listener)
    rows = (*plan.tokens.train, *base.renderer.rows_of(replay.examples))
    require_fair_rows(rows, base, plan.split, plan.prompt)
    result = train(
        base,
        rows,
        plan.tokens.valid,
        plan.settings.training,
        folder=plan.folder / "training",
        run_key=plan.key,
        on_event=training_listener(listener),
        planned=None if expected is None else expected.training,
    )
    return Trained(result=result, replay=replay.examples)


def train_part(
    plan: StudyPlan,
    base: LoadedModel,
    examples: Sequence[Example],
    listener: Listener,
    *,
    replay: Sequence[Example] = (),
    folder: Path,
    what: str,
) -> TrainingResult:
    """Train on some examples beside the study's own training, by the settings of the plan.

    Args:
        plan: The study, with the settings to train by.
        base: The model that is trained, bare.
        examples: What it learns from; training examples of the study.
        listener: Is told how far it is.
        replay: General examples beside them.
        folder: Of this training; its name says which of the study's it is.
        what: The same in words.
    """
    ids = {example.id for example in examples}
    own = [row for row in plan.tokens.train if row.example_id in ids]
    return train(
        base,
        (*own, *base.renderer.rows_of(replay)),
        plan.tokens.valid,
        plan.settings.training,
        folder=folder,
        run_key=f"{plan.key}/{folder.name}",
        on_event=training_listener(listener, name=what),
    )


def share_training(plan: StudyPlan) -> None:
    """Take part in the training of a study that another process runs, as one of those that `torchrun` has started.

    The launcher ends this process where the first one fails.
    """
    if plan.given is not None:
        return
    with base_of(plan.settings.training.method, plan.loaded) as base:
        train(
            base,
            (*plan.tokens.train, *base.renderer.rows_of(_replay_of_leader(plan))),
            plan.tokens.valid,
            plan.settings.training,
            folder=plan.folder / "training",
            run_key=plan.key,
        )


def training_summary(plan: StudyPlan, trained: Trained, tuned: Path) -> TrainingSummary:
    """What the report says of the training.

    Args:
        plan: The study.
        trained: What came of it.
        tuned: The folder of what answers: of an adapter with the strength that was chosen.
    """
    result = trained.result
    settings = asdict(plan.settings.training)
    lora = settings.pop("lora")
    if plan.settings.training.method.trains_adapter:
        settings |= {f"lora_{name}": value for name, value in lora.items()}
    base_weights = plan.settings.training.method.base_weights
    settings |= {
        "learning_rate": result.learning_rate,
        "precision": plan.loaded.precision.value,
        "base_weights": base_weights.value,
        "prompted_weights": plan.loaded.base_weights.value,
    }
    return TrainingSummary(
        base_model=named(plan.loaded.source, base_weights),
        tuned_path=str(tuned),
        settings=settings,
        loss_points=result.loss_points,
        best_step=result.best_step,
        num_steps=result.num_steps,
        stopped_early=result.stopped_early,
        num_train_examples=len(plan.split.train),
        num_replayed_examples=len(trained.replay),
        num_trained_tokens=result.num_trained_tokens,
        num_processed_tokens=result.num_processed_tokens,
        seconds=result.seconds,
        peak_memory_bytes=result.peak_memory_bytes,
        planned=result.planned,
    )


def _replay(plan: StudyPlan, base: LoadedModel, listener: Listener) -> Replay:
    """The general examples, kept in the study's folder for whoever reads it or takes part in the training."""
    file = plan.folder / "training" / _REPLAY
    if base.division is not None:  # its answers are too slow
        replay = Replay(examples=(), num_wanted=0, num_passed_over=0)
    else:
        replay = replayed(
            base,
            plan.settings.replay,
            num_examples=len(plan.split.train),
            folder=get_settings().home / "replay",
            seed=plan.settings.seed,
            held_out=(*plan.split.valid, *plan.split.test),
            on_answers=lambda done, total: listener.on_stage(
                Stage(name="the base model answers general questions, to be replayed", num_done=done, num_total=total)
            ),
        )
    told = [{"id": one.id, "prompt": one.prompt[0].content, "answer": one.answer} for one in replay.examples]
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, json.dumps({"key": plan.key, "examples": told}, ensure_ascii=False, indent=1))
    return replay


def _replay_of_leader(plan: StudyPlan) -> tuple[Example, ...]:
    """The general examples of the process that runs the study, once it has them."""
    file = plan.folder / "training" / _REPLAY
    while True:
        if file.is_file() and (kept := json.loads(file.read_text("utf-8")))["key"] == plan.key:
            break
        time.sleep(_SECONDS_BETWEEN_LOOKS)
    return tuple(
        Example(
            id=one["id"],
            messages=(Message(role="user", content=one["prompt"]), Message(role="assistant", content=one["answer"])),
            source=Location(file=_REPLAY, line=number),
        )
        for number, one in enumerate(kept["examples"], start=1)
    )
