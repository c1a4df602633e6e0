"""Made-up searches and learning curves, computed as real ones are."""

from __future__ import annotations

from fettle.statistics.learning_curve import learning_curve
from fettle.study.settings import SEARCHED_EPOCHS
from fettle.tuning_records import LearningCurve, SettingsSearch, Trial, TrialResult


def curve(*, num_rows: int = 400, rights: tuple[int, ...] = (52, 63, 71)) -> LearningCurve:
    """Of models that get so many of 100 right with 375, 750 and 1,500 examples."""
    scores = [
        (size, [float(place % 100 < right) for place in range(num_rows)])
        for size, right in zip((375, 750, 1500), rights, strict=True)
    ]
    return learning_curve(scores, range(num_rows), seed=1)


def search(*, chosen: int = 3) -> SettingsSearch:
    """Of six trials, of which three went on."""
    trials = [
        Trial(
            number=number,
            learning_rate=rate,
            epochs=SEARCHED_EPOCHS[number % len(SEARCHED_EPOCHS)],
            rank=16,
            results=tuple(
                TrialResult(num_examples=size, score=0.4 + 0.05 * number, valid_loss=0.3, seconds=31.0)
                for size in (375, 750)[: 2 if number % 2 else 1]
            ),
        )
        for number, rate in enumerate((0.0015, 0.00041, 0.0037, 0.0022, 0.00093, 0.0058), start=1)
    ]
    return SettingsSearch(trials=tuple(trials), chosen=chosen, num_examples=200)
