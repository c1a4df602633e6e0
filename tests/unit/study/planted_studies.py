"""A finished study of a tiny model that faults are planted in, and what of it is asked again."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from fettle.forgetting.replay import ReplaySettings
from fettle.models.precision import Precision
from fettle.records import TaskKind
from fettle.settings import get_settings
from fettle.study.planning import StudyPlan, plan_study
from fettle.study.run import StudyResult, run_study
from fettle.study.settings import StudySettings
from fettle.training.settings import TrainingSettings
from tiny_models import save_tiny_model

WORDS = {
    "billing": ("invoice", "charged", "refund", "twice", "card", "price", "receipt", "paid"),
    "delivery": ("parcel", "missing", "tracking", "depot", "driver", "nowhere", "courier", "vanished"),
}
FILLERS = ("please", "help", "today", "again", "we", "they", "still", "since", "monday", "soon", "why")


def questions(count: int, *, seed: int = 1) -> list[tuple[str, str]]:
    """(question, label), no two questions alike."""
    rng, labels = random.Random(seed), tuple(WORDS)
    made: dict[str, str] = {}
    while len(made) < count:
        label = labels[len(made) % 2]
        words = [*rng.sample(WORDS[label], 3), *rng.sample(FILLERS, 4), f"{rng.randrange(10**4):04d}"]
        rng.shuffle(words)
        made[" ".join(words)] = label
    return list(made.items())


def write_rows(file: Path, rows: list[tuple[str, str]]) -> Path:
    turns = [[{"role": "user", "content": q}, {"role": "assistant", "content": a}] for q, a in rows]
    file.write_text("".join(json.dumps({"messages": one}) + "\n" for one in turns))
    return file


@contextmanager
def home_at(folder: Path) -> Iterator[Path]:
    """FETTLE_HOME lies there meanwhile."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FETTLE_HOME", str(folder))
        get_settings.cache_clear()
        yield folder
    get_settings.cache_clear()


@dataclass(frozen=True)
class Bench:
    """A folder with a model, data, and a finished study of them."""

    folder: Path

    @property
    def settings(self) -> StudySettings:
        training = TrainingSettings(epochs=1, batch_size=4)
        return StudySettings(
            examples=self.folder / "labels.jsonl",
            model=str(self.folder / "model"),
            task=TaskKind.LABELS,
            precision=Precision.EXACT,
            training=training,
            replay=ReplaySettings(share=0),
            forgetting=None,
            out=self.folder / "study",
        )

    def plan(self) -> StudyPlan:
        return plan_study(self.settings)

    def resumed(self, place: Path) -> StudyResult:
        """The finished study gone on with in another folder, as if a run had been cut off before the test split was asked."""
        shutil.copytree(self.folder / "study", place)
        shutil.rmtree(place / "answers" / "test")
        shutil.rmtree(place / "answers" / "latency")
        return run_study(replace(self.settings, out=place))


def make_bench(folder: Path) -> tuple[Bench, StudyResult]:
    save_tiny_model(folder / "model", "qwen2")
    write_rows(folder / "labels.jsonl", questions(36))
    bench = Bench(folder)
    return bench, run_study(bench.settings)


def after(function: Callable, then: Callable) -> Callable:
    """The function, with something done to what it returns."""

    def both(*args, **named):
        return then(function(*args, **named))

    return both
