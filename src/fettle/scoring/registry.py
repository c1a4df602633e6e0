"""All graders by name, and the ones a task gets when the user names none. A new grader adds its file and one line here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from difflib import get_close_matches
from statistics import median

from fettle.errors import ConfigError
from fettle.records import Example, Task, TaskKind
from fettle.scoring.abstention import FEWEST_REPEATS, learn_abstentions
from fettle.scoring.grader import Grader
from fettle.scoring.graders.answer_or_abstention import AnswerOrAbstention
from fettle.scoring.graders.groundedness import learn_groundedness
from fettle.scoring.graders.house_style import learn_house_style
from fettle.scoring.graders.json_answer import JsonExact, JsonFields, JsonValid
from fettle.scoring.graders.label import ExactLabel, LikeliestLabel
from fettle.scoring.graders.text import Chrf, ExactText, RougeL
from fettle.scoring.label_reader import LabelReader
from fettle.scoring.style_rules import Measure

_MAX_EXACT_WORDS = 5
"""Answers longer than this are hardly ever the same word for word."""

_GRADERS: dict[str, Callable[[Task, Sequence[Example]], Grader]] = {
    "exact_label": lambda task, train: ExactLabel(reader=_label_reader(task, train)),
    "likeliest_label": lambda task, train: LikeliestLabel(reader=_label_reader(task, train)),
    "json_fields": lambda task, train: JsonFields(),  # noqa: ARG005 (the registry's interface)
    "json_exact": lambda task, train: JsonExact(),  # noqa: ARG005
    "json_valid": lambda task, train: JsonValid(json_schema=task.json_schema),  # noqa: ARG005
    "chrf": lambda task, train: Chrf(),  # noqa: ARG005
    "rouge_l": lambda task, train: RougeL(),  # noqa: ARG005
    "exact_text": lambda task, train: ExactText(),  # noqa: ARG005
    "house_style": lambda task, train: learn_house_style(train),  # noqa: ARG005
    "groundedness": lambda task, train: learn_groundedness(train),  # noqa: ARG005
    "answer_or_abstention": lambda task, train: _or_abstention(_default_names(task, train)[0], task, train),
}


def grader_names() -> tuple[str, ...]:
    """The names of all graders."""
    return tuple(_GRADERS)


def grader_by_name(name: str, task: Task, train: Sequence[Example]) -> Grader:
    """The grader called `name`, made ready for a task with what it learns from the training examples.

    Raises:
        ConfigError: There is no such grader.
    """
    if name not in _GRADERS:
        nearest = get_close_matches(name, _GRADERS, n=1)
        raise ConfigError(
            f"there is no grader called {name!r}",
            remedy=f"did you mean {nearest[0]!r}?" if nearest else f"choose one of {', '.join(_GRADERS)}",
        )
    return _GRADERS[name](task, train)


def default_graders(task: Task, train: Sequence[Example], *, from_documents: bool = False) -> tuple[Grader, ...]:
    """The graders of a task whose user named none, the primary one first.

    Args:
        task: What kind of answer is wanted.
        train: Training examples.
        from_documents: Whether the answers stand in documents: where some training answers say that none does, to say so is right
            where it is true.
    """
    names = _default_names(task, train)
    if from_documents and task.kind is TaskKind.TEXT and _num_abstaining(train) >= FEWEST_REPEATS:
        names.insert(0, "answer_or_abstention")
    graders = [grader_by_name(name, task, train) for name in names]
    if task.kind is TaskKind.TEXT and (house_style := learn_house_style(train)).rules:
        graders.append(house_style)
    return tuple(graders)


def _default_names(task: Task, train: Sequence[Example]) -> list[str]:
    match task.kind:
        case TaskKind.LABELS:
            return ["exact_label"]
        case TaskKind.JSON:
            return ["json_fields", "json_exact", "json_valid"]
        case TaskKind.TEXT:
            is_short = train and median(Measure.WORDS.of(example.answer) for example in train) <= _MAX_EXACT_WORDS
            return ["chrf", "rouge_l", *(["exact_text"] if is_short else [])]


def _num_abstaining(train: Sequence[Example]) -> int:
    abstentions = learn_abstentions(train)
    return sum(map(abstentions.is_wanted, train))


def _or_abstention(name: str, task: Task, train: Sequence[Example]) -> Grader:
    return AnswerOrAbstention(inner=grader_by_name(name, task, train), abstentions=learn_abstentions(train))


def _label_reader(task: Task, train: Sequence[Example]) -> LabelReader:
    return LabelReader(task.labels or sorted({example.answer for example in train}))
