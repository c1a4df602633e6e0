"""The user's own examples: any format, the grader that fits, and a change that counts near-duplicates together."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from fettle.answering.engine import GenerationOptions
from fettle.errors import DataError
from fettle.examples.column_names import ColumnMapping
from fettle.forgetting.must_still_work import MustStillWork, read_must_still_work
from fettle.progress import SilentListener
from fettle.records import Answer, FinishReason, Interval, Prompt, TaskKind, Usage

LABELS = [("Where is my parcel? " + "please " * place, ("late", "lost")[place % 2]) for place in range(8)]
RECORDS = [(f"Order {place}", json.dumps({"order": place, "open": True})) for place in range(6)]
SHORT = [(f"Say the number {place}", f"It is {place}") for place in range(6)]
LONG = [(f"Tell me about {name}", f"{name} is a town by the sea, and it has many old houses.") for name in "ABCDEF"]


def written(folder: Path, pairs: Sequence[tuple[str, str]]) -> Path:
    file = folder / "own.jsonl"
    file.write_text("".join(json.dumps({"prompt": asked, "completion": said}) + "\n" for asked, said in pairs))
    return file


class Echo:
    """Answers with what it is told to, by the question."""

    def __init__(self, said: dict[str, str]) -> None:
        self.said, self.calls = said, []

    def batches(self, prompts: Sequence[Prompt]) -> tuple[tuple[int, ...], ...]:
        return tuple((index,) for index in reversed(range(len(prompts))))

    def generate(self, prompts: Sequence[Prompt], options: GenerationOptions) -> tuple[Answer, ...]:
        self.calls.append(options.max_new_tokens)
        return self._answers(prompts)

    def choose(self, prompts: Sequence[Prompt], choices: Sequence[str]) -> tuple[Answer, ...]:
        self.calls.append(tuple(sorted(choices)))
        return self._answers(prompts)

    def choose_each(self, prompts: Sequence[Prompt], choices_of_each: Sequence[Sequence[str]]) -> tuple[Answer, ...]:
        raise NotImplementedError

    def _answers(self, prompts: Sequence[Prompt]) -> tuple[Answer, ...]:
        usage = Usage(prompt_tokens=1, completion_tokens=1, seconds=0.0)
        return tuple(
            Answer(
                example_id=prompt.example_id,
                text=self.said[prompt.messages[-1].content],
                finish_reason=FinishReason.STOP,
                usage=usage,
            )
            for prompt in prompts
        )


@pytest.mark.parametrize(
    ("pairs", "kind", "grader"),
    [
        (LABELS, TaskKind.LABELS, "exact_label"),
        (RECORDS, TaskKind.JSON, "json_fields"),
        (SHORT, TaskKind.TEXT, "exact_text"),
        (LONG, TaskKind.TEXT, "chrf"),
    ],
)
def test_answers_are_graded_as_they_are(
    pairs: list[tuple[str, str]], kind: TaskKind, grader: str, tmp_path: Path, tiny_model: Callable[[str], Any]
) -> None:
    own = read_must_still_work(written(tmp_path, pairs))
    assert (own.task.kind, own.grader.name) == (kind, grader)
    renderer = tiny_model("llama").renderer
    base = Echo(dict(pairs))
    tuned = Echo({asked: said if place else "" for place, (asked, said) in enumerate(pairs)})
    before, after = (
        own.answered_by(engine, renderer, SilentListener(), who="it")  # type: ignore[arg-type]
        for engine in (base, tuned)
    )
    change = own.change(before, after)
    assert change.base == pytest.approx(1)
    assert change.change.estimate == pytest.approx(-1 / len(pairs))
    assert (change.num_worse, change.num_better, change.num_items) == (1, 0, len(pairs))
    if kind is TaskKind.LABELS:
        assert set(base.calls) == {("late", "lost")}
    else:
        longest = max(len(renderer.answer_tokens(said)) for _, said in pairs)
        assert set(base.calls) == {int(1.25 * longest) + 8}


APART = [
    ("How many islands does Greece have?", "Many"),
    ("Write a slogan for a bakery", "Warm every morning"),
    ("Who repairs shoes?", "A cobbler"),
    ("Translate tree into Latin", "Arbor"),
    ("Is seven an odd number?", "Yes"),
    ("My tooth hurts, where do I go?", "To a dentist"),
    ("Name something blue", "The sky"),
    ("What do violins have?", "Strings"),
]


def test_near_duplicates_count_together(tmp_path: Path) -> None:
    question = "Could you please tell me how I get my money back for the order that I sent back to you last week"
    alike = [(f"{question}{mark}", "refund") for mark in ("?", "??", "!", ".")]
    own = read_must_still_work(written(tmp_path, [*alike, *APART]))
    of_one_cluster = change_of(own, lost={asked for asked, _ in alike})
    of_four = change_of(own, lost={asked for asked, _ in APART[:4]})
    assert of_one_cluster.estimate == of_four.estimate == pytest.approx(-1 / 3)
    assert of_one_cluster.high - of_one_cluster.low > 1.2 * (of_four.high - of_four.low)


def change_of(own: MustStillWork, *, lost: set[str]) -> Interval:
    right = Echo({one.user_text: one.answer for one in own.examples})
    wrong = Echo({one.user_text: "" if one.user_text in lost else one.answer for one in own.examples})
    prompts = [Prompt(example_id=one.id, messages=one.prompt) for one in own.examples]
    return own.change(right._answers(prompts), wrong._answers(prompts)).change


def test_columns_of_a_table_can_be_named(tmp_path: Path) -> None:
    file = tmp_path / "own.csv"
    file.write_text("said,asked\nyes,Is it cold?\nno,Is it warm?\n")
    own = read_must_still_work(file, ColumnMapping(input="asked", answer="said"))
    assert [one.answer for one in own.examples] == ["yes", "no"]


def test_one_example_shows_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="one alone can show nothing"):
        read_must_still_work(written(tmp_path, SHORT[:1]))
