"""Further answers of the tuned contender, drawn for a router that goes by how far they agree; each sample is kept as answers are.

Which prompt is asked and how a sample is drawn are those of a server's router (`routing.small.sampled`), so that a request has the
same confidence here and there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fettle.answering.answer_with import EngineKind
from fettle.contenders.contender import Contender
from fettle.contenders.language_model import LanguageModel
from fettle.contenders.retrieval import PassageReader
from fettle.errors import ConfigError
from fettle.progress import Listener
from fettle.records import Answer, Example, Task, TaskKind
from fettle.routing.confidence import self_consistency
from fettle.routing.small import sampled
from fettle.study.answers import answer_split
from fettle.study.ladder import Ladder, Rung
from fettle.study.settings import StudySettings

_WHERE = "--route-samples"


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """What was drawn: answers by sample, each in the order of the examples."""

    valid: tuple[tuple[Answer, ...], ...]
    test: tuple[tuple[Answer, ...], ...]

    @property
    def number(self) -> int:
        """Samples of each example."""
        return len(self.test)


def require_samples(settings: StudySettings, task: Task) -> None:
    """Refuse samples that nothing could be told from, before anything is answered.

    Raises:
        ConfigError: The task is to choose a label, or the engine does not sample.
    """
    if not settings.routing.num_samples:
        return
    if task.kind is TaskKind.LABELS:
        raise ConfigError(
            "the probability of a label says already what samples would agree on",
            where=_WHERE,
            remedy="leave it out: labels need no samples",
        )
    if settings.answer_with.kind is not EngineKind.LOCAL:
        raise ConfigError(
            f"{settings.answer_with.kind} gives greedy answers alone",
            where=_WHERE,
            remedy="leave it out, or let the local engine answer",
        )


def draw_samples(ladder: Ladder, rung: Rung, number: int, listener: Listener) -> Samples | None:
    """Draw samples of both splits, those that an earlier run has drawn left out; None: none are asked for.

    Args:
        ladder: Of the study.
        rung: The tuned contender, with its engine open.
        number: Samples of each example.
        listener: Is told how far it is.
    """
    if not number:
        return None
    split = ladder.split

    def drawn(part: str, examples: Sequence[Example]) -> tuple[tuple[Answer, ...], ...]:
        return tuple(
            answer_split(
                sampled_contender(rung.contender, sample),
                examples,
                file=ladder.folder / "answers" / "samples" / part / f"{rung.contender.name}-{sample}.jsonl",
                what=f"{part} (sample {sample + 1} of {number})",
                listener=listener,
            )
            for sample in range(number)
        )

    return Samples(valid=drawn("validation", split.valid), test=drawn("test", split.test))


def sampled_contender(contender: Contender, sample: int) -> Contender:
    """The same contender, asked the same, drawing the sample of that number.

    Raises:
        TypeError: It writes no answers.
    """
    match contender:
        case PassageReader():
            return replace(contender, model=_sampled_model(contender.model, sample))
        case LanguageModel():
            return _sampled_model(contender, sample)
        case _:
            raise TypeError(f"{contender.name} draws no samples")


def agreement(answers: Sequence[Answer], samples: Sequence[Sequence[Answer]], *, is_json: bool) -> NDArray[np.float64]:
    """How far the samples of each answer agree with it, [N], by `routing.confidence.self_consistency`.

    Args:
        answers: As given, [N].
        samples: [S][N] in the same order; S at least 1.
        is_json: Compared as JSON values.
    """
    found = [self_consistency(answer, drawn, is_json=is_json) for answer, *drawn in zip(answers, *samples, strict=True)]
    return np.array(found, dtype=np.float64)


def _sampled_model(model: LanguageModel, sample: int) -> LanguageModel:
    return replace(model, options=sampled(model.options, sample))
