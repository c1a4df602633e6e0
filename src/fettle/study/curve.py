"""The learning curve of a study: models trained on parts of the training examples answer the same test split.

The parts lie in each other. The models differ in nothing else: settings, share of replay and strength of the adapter
are those of the study's own tuned model, whose answers are the last point.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING

from fettle.models.load import LoadedModel
from fettle.models.strength import at_strength
from fettle.progress import Listener
from fettle.records import Example
from fettle.scoring.grader import score_answers
from fettle.statistics.learning_curve import learning_curve
from fettle.study.ladder import Ladder
from fettle.study.results import TestedRung, scored_arm
from fettle.study.settings import CURVE_PARTS
from fettle.study.trained import Trained, train_part
from fettle.study.tuned import answering, tuned_arm
from fettle.tuning_records import LearningCurve

if TYPE_CHECKING:
    from fettle.study.planning import StudyPlan


def study_curve(
    plan: StudyPlan,
    base: LoadedModel,
    trained: Trained,
    tuned: TestedRung,
    ladder: Ladder,
    listener: Listener,
    *,
    strength: float,
) -> LearningCurve:
    """Train on parts of the examples, answer the test split, and say what more examples would probably bring.

    Args:
        plan: The study.
        base: The model that is trained, bare; it is bare again afterwards.
        trained: What the study has trained on all examples.
        tuned: Its answers to the test split.
        ladder: Answers and reads.
        listener: Is told how far it is.
        strength: Of every adapter, as of the study's own.
    """
    scores: list[tuple[int, list[float | None]]] = []
    for part in CURVE_PARTS:
        examples = part_of(plan.split.train, part, seed=plan.settings.seed)
        listener.on_message(f"Learning curve: training on {len(examples):,} of {len(plan.split.train):,} examples")
        folder = _trained_on(plan, base, trained, examples, part, listener, strength=strength)
        scores.append((len(examples), _scores(plan, base, folder, part, ladder)))
    scores.append((len(plan.split.train), [*scored_arm(tuned, plan.split.test, plan.graders[0]).scores]))
    clusters = [plan.split.cluster_by_id[example.id] for example in plan.split.test]
    return learning_curve(scores, clusters, seed=plan.settings.seed, worthwhile=plan.settings.worthwhile)


def part_of(examples: tuple[Example, ...], part: float, *, seed: int) -> tuple[Example, ...]:
    """A share of the examples, drawn at random, in their order; a smaller share lies within a larger one.

    Args:
        examples: All of them.
        part: In (0, 1].
        seed: Of the draw.
    """
    places = list(range(len(examples)))
    random.Random(seed).shuffle(places)
    return tuple(examples[place] for place in sorted(places[: max(1, round(part * len(examples)))]))


def _trained_on(
    plan: StudyPlan,
    base: LoadedModel,
    trained: Trained,
    examples: tuple[Example, ...],
    part: float,
    listener: Listener,
    *,
    strength: float,
) -> Path:
    replay = trained.replay[: round(part * len(trained.replay))]
    folder = plan.folder / "training" / f"part-{part:g}"
    what = f"training on {len(examples):,} examples"
    result = train_part(plan, base, examples, listener, replay=replay, folder=folder, what=what)
    return at_strength(result.tuned, strength, into=folder / f"at-{strength:g}")


def _scores(plan: StudyPlan, base: LoadedModel, folder: Path, part: float, ladder: Ladder) -> list[float | None]:
    """Of that model on the test split, read in the way that suits it best on validation."""
    with answering(plan, base, folder) as engine:
        rung = ladder.best([tuned_arm(plan, engine, folder, name=f"{plan.arm}-{part:g}")])
        answers = ladder.answer_test(rung)
    return [score.value for score in score_answers(plan.graders[0], plan.split.test, answers)]
