"""Settings of the training searched for on validation alone, by successive halving.

Every trial is trained on a part of the examples, the better half goes on with twice as many, and the winner's settings train the
study's model on all of them. Among the trials are the settings that would be used without a search. Nothing is replayed in trials.

Source: Jamieson and Talwalkar 2016, "Non-stochastic Best Arm Identification and Hyperparameter Optimization".
"""

from __future__ import annotations

import math
import random
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from fettle.files import append_json_lines, read_json_lines
from fettle.models.adapter import LoraSettings
from fettle.models.load import LoadedModel
from fettle.progress import Listener
from fettle.study.curve import part_of
from fettle.study.ladder import Ladder
from fettle.study.settings import SEARCH_PARTS, SEARCHED_EPOCHS, SEARCHED_RANKS
from fettle.study.trained import train_part
from fettle.study.tuned import answering, tuned_arm
from fettle.training.settings import TrainingSettings, derived_learning_rate, two_digits
from fettle.tuning_records import SettingsSearch, Trial, TrialResult

if TYPE_CHECKING:
    from fettle.study.planning import StudyPlan

_MOST_FACTOR = 4.0
"""Learning rates lie within this factor of the one that would be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundSettings:
    """What a search has found."""

    training: TrainingSettings
    search: SettingsSearch


def search_settings(plan: StudyPlan, base: LoadedModel, ladder: Ladder, listener: Listener) -> FoundSettings:
    """Search, or go on where an earlier run of the study was cut off.

    Args:
        plan: The study; its settings say how many trials there are.
        base: The model that is trained, bare; it is bare again afterwards.
        ladder: Says how well the task is done.
        listener: Is told how far it is.
    """
    assert plan.settings.num_trials is not None, "the study asks for it"
    drawn = drawn_settings(
        plan.settings.training,
        num_trials=plan.settings.num_trials,
        num_parameters=base.model.num_parameters(),
        seed=plan.settings.seed,
    )
    runner = _Runner(plan, base, ladder, listener)
    results: dict[int, list[TrialResult]] = {number: [] for number in range(len(drawn))}
    left = list(results)
    for part in SEARCH_PARTS:
        for number in left:
            results[number].append(runner.run(number, drawn[number], part))
        left = better_half(left, {number: results[number][-1] for number in left})
        if len(left) == 1:
            break
    trials = tuple(_trial(number, drawn[number], results[number]) for number in results)
    chosen = left[0]
    search = SettingsSearch(trials=trials, chosen=chosen + 1, num_examples=len(ladder.tried_examples))
    listener.on_message(
        f"Settings search: trial {chosen + 1} of {len(trials)} (learning rate {drawn[chosen].learning_rate:g}, "
        f"{drawn[chosen].epochs} epochs) did best on validation"
    )
    return FoundSettings(training=drawn[chosen], search=search)


def drawn_settings(
    settings: TrainingSettings, *, num_trials: int, num_parameters: int, seed: int
) -> tuple[TrainingSettings, ...]:
    """The settings as they are, and others with a learning rate, epochs and, for adapters, a rank drawn at random.

    Learning rates are spread evenly over the range in logarithms (one draw in each of as many parts as there are trials), so that
    few trials do not leave a part of it out.

    Args:
        settings: What would be used without a search.
        num_trials: At least 2.
        num_parameters: Of the base model: says which learning rate would be used.
        seed: Of the draw.
    """
    rng = random.Random(seed)
    usual = settings.learning_rate or derived_learning_rate(num_parameters, settings.method)
    drawn = [replace(settings, learning_rate=usual)]
    parts = list(range(num_trials - 1))
    rng.shuffle(parts)
    for part in parts:
        place = 2 * (part + rng.random()) / (num_trials - 1) - 1
        rate = two_digits(usual * _MOST_FACTOR**place)
        other = replace(settings, learning_rate=rate, epochs=rng.choice(SEARCHED_EPOCHS))
        if settings.method.trains_adapter:
            other = replace(other, lora=LoraSettings.of_rank(rng.choice(SEARCHED_RANKS), settings.lora.variant))
        drawn.append(other)
    return tuple(drawn)


def better_half(numbers: Sequence[int], results: dict[int, TrialResult]) -> list[int]:
    """The better half of the trials, rounded up: by score, by validation loss where scores are equal, by number where all is.

    >>> scores = [0.5, 0.7, 0.7, 0.1]
    >>> tried = {n: TrialResult(num_examples=9, score=s, valid_loss=1.0 / (n + 1), seconds=1.0) for n, s in enumerate(scores)}
    >>> better_half([0, 1, 2, 3], tried)
    [2, 1]
    """

    def rank(number: int) -> tuple[float, float, int]:
        result = results[number]
        score = -1.0 if result.score is None else result.score
        loss = math.inf if result.valid_loss is None else result.valid_loss
        return -score, loss, number

    return sorted(numbers, key=rank)[: math.ceil(len(numbers) / 2)]


class _Runner:
    """Trains and judges trials, each once: what is known of it is kept, and its weights are not."""

    def __init__(self, plan: StudyPlan, base: LoadedModel, ladder: Ladder, listener: Listener) -> None:
        self._plan, self._base, self._ladder, self._listener = plan, base, ladder, listener
        self._folder = plan.folder / "training" / "search"
        self._file = self._folder / "trials.jsonl"
        kept = [row for row in read_json_lines(self._file) if row.get("key") == plan.key]
        self._known = {(row["trial"], row["part"]): TrialResult(**row["result"]) for row in kept}

    def run(self, number: int, settings: TrainingSettings, part: float) -> TrialResult:
        """What a trial comes to on a part of the training examples."""
        if (number, part) in self._known:
            return self._known[number, part]
        folder = self._folder / f"trial-{number + 1}-{part:g}"
        result = self._trained(number, settings, part, folder)
        self._folder.mkdir(parents=True, exist_ok=True)
        row = {"key": self._plan.key, "trial": number, "part": part, "result": asdict(result)}
        append_json_lines(self._file, [row])
        shutil.rmtree(folder)
        return result

    def _trained(self, number: int, settings: TrainingSettings, part: float, folder: Path) -> TrialResult:
        plan = self._plan
        examples = part_of(plan.split.train, part, seed=plan.settings.seed)
        name = f"trial {number + 1} on {len(examples):,} examples"
        tried = replace(plan, settings=replace(plan.settings, training=settings))
        trained = train_part(tried, self._base, examples, self._listener, folder=folder, what=name)
        losses = [point.valid_loss for point in trained.loss_points if point.valid_loss is not None]
        return TrialResult(
            num_examples=len(examples),
            score=self._score(number, part, trained.tuned),
            valid_loss=min(losses, default=None),
            seconds=trained.seconds,
        )

    def _score(self, number: int, part: float, folder: Path) -> float | None:
        with answering(self._plan, self._base, folder) as engine:
            arm = tuned_arm(self._plan, engine, folder)
            what = f"validation (trial {number + 1})"
            name = f"search/{number + 1}-{part:g}"
            return self._ladder.tried(arm, self._ladder.tried_examples, name=name, what=what).score


def _trial(number: int, settings: TrainingSettings, results: Sequence[TrialResult]) -> Trial:
    assert settings.learning_rate is not None, "every trial has one"
    return Trial(
        number=number + 1,
        learning_rate=settings.learning_rate,
        epochs=settings.epochs,
        rank=settings.lora.rank if settings.method.trains_adapter else None,
        results=tuple(results),
    )
