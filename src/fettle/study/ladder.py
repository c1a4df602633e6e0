"""The rungs: every contender is built, given its best shot on the validation split, and answers the test split once.

All choices (hint or not, which shots, how many, how a label is read, who is the baseline) are made on validation answers. The test
split is opened after the primary comparison has been declared.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fettle.answering.engine import Engine, GenerationOptions
from fettle.contenders.classifier import fit_classifier
from fettle.contenders.classifier_arm import ClassifierArm
from fettle.contenders.constant import ConstantAnswer, constant_answer
from fettle.contenders.contender import Contender
from fettle.contenders.few_shot import FixedShots, NearestShots, short_enough, shot_sets
from fettle.contenders.instruction import derive_hint
from fettle.contenders.language_model import LanguageModel
from fettle.contenders.prompt import OwnPrompt, PromptStyle
from fettle.contenders.readings import LabelReading, Reading, readings
from fettle.errors import DataError
from fettle.progress import Listener
from fettle.records import Answer, Example, Score, Split, Task, TaskKind
from fettle.retrieval.embedder import CachedEmbedder, MiniLMEmbedder
from fettle.retrieval.neighbours import NearestNeighbours
from fettle.scoring.grader import Grader, score_answers
from fettle.scoring.graders.openai_json import OpenAIJson
from fettle.scoring.graders.text import Chrf
from fettle.study.answers import answer_split, was_asked
from fettle.study.settings import num_tried_examples

_NUM_CHOOSING_EXAMPLES = 32
"""Validation examples that variants of one contender are compared on; the winner then answers the others too."""
_NUM_LONG_SHOTS = 3
"""Of fixed shots, however long they are: each makes every request of the study and of production dearer."""
_NUM_SHORT_SHOTS = 8
_SHORT_SHOT_CHARACTERS = 1500
"""Shots that are this short together cost a few hundred tokens: there are up to eight of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """A contender with the choices that were made for it on validation."""

    contender: Contender
    reading: LabelReading | None
    validation_score: float | None
    """Mean primary score on the validation split, unscored answers left out; None: not one could be scored."""
    num_failed: int = 0
    """Requests about the validation split that failed, those of a grading model included."""
    validation_answers: tuple[Answer, ...] = ()
    """As read; in the order of the validation examples."""

    def describe(self) -> str:
        """How it answers, with what was chosen."""
        read = (
            f", read by {self.reading.kind.value}" if self.reading and self.reading.kind is not Reading.GREEDY else ""
        )
        return self.contender.describe() + read


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """What a variant came to."""

    score: float | None
    """Mean primary score; None: not one answer could be scored."""
    answers: tuple[Answer, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ladder:
    """What all rungs of one study share."""

    split: Split
    task: Task
    primary: Grader
    options: GenerationOptions
    folder: Path
    listener: Listener
    shot_characters: int = 6000
    """Bound on the text of few-shot examples in one prompt."""
    style_rules: tuple[str, ...] = ()
    """What the house-style grader learned, in words."""
    seed: int = 0

    def untuned(self, engine: Engine, engine_identity: str) -> list[Rung]:
        """The contenders that ask the untuned model, each with its best variant."""
        hint = derive_hint(self.task, self.split.train, self.style_rules)

        def arm(name: str, title: str, style: PromptStyle) -> LanguageModel:
            return LanguageModel(
                name=name,
                title=title,
                engine=engine,
                style=style,
                task=self.task,
                options=self.options,
                engine_identity=engine_identity,
            )

        rungs = [self.best([arm("prompt", "Prompt only", OwnPrompt()), arm("prompt", "Prompt only", OwnPrompt(hint))])]
        hints = self._shot_hints(hint)
        sets = shot_sets(self.split.train, num_shots=self._num_fixed_shots(), num_sets=2, seed=self.seed)
        fixed = [FixedShots(shots, one) for one in hints for shots in sets]
        rungs.append(self.best([arm("few_shot", "Few-shot, fixed", style) for style in fixed]))
        neighbours = NearestNeighbours(CachedEmbedder(MiniLMEmbedder()), short_enough(self.split.train))
        nearest = [NearestShots(neighbours, max(1, self._num_short_shots()), one) for one in hints]
        rungs.append(self.best([arm("few_shot_nearest", "Few-shot, nearest", style) for style in nearest]))
        return rungs

    def constant(self) -> Rung:
        """The answer that is always the same."""
        return self.best([constant_answer(self.split.train, self.task, _cheap(self.primary))])

    def classifier(self) -> Rung:
        """Embeddings or TF-IDF with logistic regression, for label tasks."""
        fitted = fit_classifier(
            self.split.train,
            self.split.valid,
            labels=self.task.labels,
            seed=self.seed,
            embedder=CachedEmbedder(MiniLMEmbedder()),
        )
        return self.best([ClassifierArm(fitted)])

    def best(self, variants: Sequence[Contender]) -> Rung:
        """The variant that answers validation examples best; the first of equals."""
        if len(variants) == 1:
            return self._rung(variants[0])
        few = self.split.valid[:_NUM_CHOOSING_EXAMPLES]
        tried = []
        for number, variant in enumerate(variants):
            what = f"validation (variant {number + 1} of {len(variants)})"
            tried.append(self.tried(variant, few, name=f"choosing/{variant.name}-{number}", what=what))
        best = max(range(len(tried)), key=lambda number: _rank(tried[number].score))
        return self._rung(variants[best], tried[best].answers)

    @property
    def tried_examples(self) -> tuple[Example, ...]:
        """The validation examples that settings and strengths are tried on."""
        return self.split.valid[: num_tried_examples(self.task)]

    def tried(self, contender: Contender, examples: Sequence[Example], *, name: str, what: str) -> Tried:
        """A contender tried on some validation examples, read in the way that suits it best.

        Args:
            contender: Who answers.
            examples: What is asked.
            name: Of the file of answers, without its ending.
            what: The same in words, for the progress display.
        """
        file = self.folder / "answers" / f"{name}.jsonl"
        answers = answer_split(contender, examples, file=file, what=what, listener=self.listener)
        scores = [
            _mean(score_answers(self.primary, examples, reading.read(answers))) for reading in self._readings(answers)
        ]
        return Tried(score=max(scores, key=_rank), answers=answers)

    def answer_test(self, rung: Rung) -> tuple[Answer, ...]:
        """The test split, answered once and read as chosen."""
        file = self._file("test", rung.contender)
        answers = answer_split(rung.contender, self.split.test, file=file, what="test", listener=self.listener)
        return rung.reading.read(answers) if rung.reading else answers

    def was_asked(self, contender: Contender) -> bool:
        """Whether every request of a contender without variants has been made, failed ones included."""
        parts = (("valid", self.split.valid), ("test", self.split.test))
        return all(was_asked(contender, examples, file=self._file(name, contender)) for name, examples in parts)

    def _file(self, part: str, contender: Contender) -> Path:
        return self.folder / "answers" / part / f"{contender.name}.jsonl"

    def _rung(self, contender: Contender, answered: tuple[Answer, ...] = ()) -> Rung:
        """The contender judged on the validation split, of which the first examples may be answered already."""
        answers = answered
        if rest := self.split.valid[len(answered) :]:
            file = self._file("valid", contender)
            answers += answer_split(contender, rest, file=file, what="validation", listener=self.listener)
        possible = self._readings(answers)
        scored = [score_answers(self.primary, self.split.valid, reading.read(answers)) for reading in possible]
        scores = [_mean(some) for some in scored]
        best = max(range(len(scores)), key=lambda number: _rank(scores[number]))
        reading = possible[best] if self.task.kind is TaskKind.LABELS else None
        num_failed = sum(answer.has_failed for answer in answers) + sum(score.is_retried for score in scored[best])
        return Rung(
            contender=contender,
            reading=reading,
            validation_score=scores[best],
            num_failed=num_failed,
            validation_answers=possible[best].read(answers),
        )

    def _readings(self, answers: Sequence[Answer]) -> tuple[LabelReading, ...]:
        if self.task.kind is TaskKind.LABELS:
            return readings(answers)
        return (LabelReading(kind=Reading.GREEDY, mean_log_likelihoods={}),)

    def _shot_hints(self, hint: str) -> tuple[str | None, ...]:
        """What may stand before shots. A list of labels can hurt as well as help, and some instructions have it already."""
        if self.task.kind is not TaskKind.LABELS:
            return (hint,)
        instructions = {example.messages[0].content for example in self.split.train}
        words = [re.compile(rf"(?<!\w){re.escape(label)}(?!\w)") for label in self.task.labels]
        is_listed = all(word.search(text) for text in instructions for word in words)
        return (None,) if is_listed else (None, hint)

    def _num_fixed_shots(self) -> int:
        """As many as fit into a bounded prompt: few, or more where they are short, or one for each label.

        At least one: the prompts that it makes too long for the model go without it.
        """
        wanted = max(_NUM_LONG_SHOTS, self._num_short_shots(), len(self.task.labels))
        return max(1, min(wanted, self.shot_characters // self._usual_characters(), len(self.split.train)))

    def _num_short_shots(self) -> int:
        """As many as are short together."""
        return min(_NUM_SHORT_SHOTS, _SHORT_SHOT_CHARACTERS // self._usual_characters(), len(self.split.train))

    def _usual_characters(self) -> int:
        """Length of a shot that three quarters of the training examples do not exceed."""
        lengths = sorted(sum(len(m.content) for m in example.messages[1:]) for example in self.split.train)
        return max(1, lengths[len(lengths) * 3 // 4])


def best_rung(rungs: Sequence[Rung]) -> Rung:
    """The rung with the highest validation score, the first of equals: the baseline.

    The question is whether tuning beats a good prompt (or a classifier), so the constant answer is never the baseline: on few
    validation examples it would now and then be the best by luck, and be the easier one to beat. A tuned model has to beat it as
    well before it is shipped (`study.verdict`).

    Raises:
        DataError: None of them has a score.
    """
    candidates = [rung for rung in rungs if not isinstance(rung.contender, ConstantAnswer)]
    best = max(candidates, key=by_validation)
    if best.validation_score is None:
        raise DataError(
            "no answer to the validation split could be scored, so there is nothing to compare",
            remedy="check that the wanted answers are text (calls of tools are not graded), or name another --grader",
        )
    return best


def by_validation(rung: Rung) -> float:
    """What rungs are sorted by: the validation score; one without comes after all that have one."""
    return _rank(rung.validation_score)


def _mean(scores: Sequence[Score]) -> float | None:
    values = [score.value for score in scores if score.value is not None]
    return sum(values) / len(values) if values else None


def _cheap(primary: Grader) -> Grader:
    """What says how alike training answers are, pair by pair: neither a model nor code of the user is asked 1,600 times."""
    return Chrf() if isinstance(primary, OpenAIJson) and primary.is_costly else primary


def _rank(score: float | None) -> float:
    """For choosing only: what could not be scored comes after everything that could."""
    return -1.0 if score is None else score
