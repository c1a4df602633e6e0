"""The user's own examples of what must still work after fine-tuning: other tasks of the same model, small talk, old favourites.

Any file that a study reads will do. They are answered as a study answers: one of the labels where the answers are labels, and
greedily written otherwise. What the base model never could do cannot be lost, so only the change counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from fettle.answering.engine import Engine, GenerationOptions
from fettle.chat.renderer import ChatRenderer
from fettle.errors import DataError
from fettle.examples.column_names import ColumnMapping
from fettle.examples.duplicates import cluster_by_id
from fettle.examples.notes import warning
from fettle.examples.read import read_examples
from fettle.examples.seen import find_seen
from fettle.examples.task import recognise_task
from fettle.files import sha256_of_json
from fettle.forgetting.changes import skill_change
from fettle.progress import Listener, Stage
from fettle.records import Answer, Example, Finding, Prompt, Task, TaskKind
from fettle.report_records import SkillChange
from fettle.scoring.grader import Grader, score_answers
from fettle.scoring.registry import grader_by_name

OWN = "own"
_FEWEST = 2
_EXACT_WORDS = 5
"""Texts of at most so many words (median) must be the same; of longer ones it is asked how much is alike."""
_SPARE_TOKENS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class MustStillWork:
    """Examples, and how their answers are graded."""

    examples: tuple[Example, ...]
    task: Task
    grader: Grader
    findings: tuple[Finding, ...]
    """What was noticed while reading."""
    sha256: str
    """Of all files."""

    def answered_by(
        self, engine: Engine, renderer: ChatRenderer, listener: Listener, *, who: str
    ) -> tuple[Answer, ...]:
        """One answer for each example, in their order.

        Args:
            engine: Who answers.
            renderer: Says how long the wanted answers are, in tokens.
            listener: Is told after each batch.
            who: The model's name, for the progress display.
        """
        prompts = [Prompt(example_id=one.id, messages=one.prompt, tools=one.tools) for one in self.examples]
        longest = max(len(renderer.answer_tokens(one.answer)) for one in self.examples)
        options = GenerationOptions(max_new_tokens=int(1.25 * longest) + _SPARE_TOKENS)
        by_id: dict[str, Answer] = {}
        for batch in engine.batches(prompts):
            some = [prompts[index] for index in batch]
            is_label = self.task.kind is TaskKind.LABELS
            answers = engine.choose(some, self.task.labels) if is_label else engine.generate(some, options)
            by_id |= {answer.example_id: answer for answer in answers}
            stage = Stage(name=f"{who} answers what must still work", num_done=len(by_id), num_total=len(prompts))
            listener.on_stage(stage)
        return tuple(by_id[one.id] for one in self.examples)

    def learned_findings(self, learned: Sequence[Example]) -> tuple[Finding, ...]:
        """A finding where some of these examples are also learned from, or nearly: they say nothing of what was forgotten.

        Args:
            learned: Training and validation examples.
        """
        seen = find_seen(self.examples, learned)
        if not seen:
            return ()
        first = next(example for example in self.examples if example.id in seen)
        return (
            warning(
                "own-learned",
                f"{len(seen):,} of {len(self.examples):,} examples of what must still work, this one first, ask what is learned in "
                "this study, or nearly: what was learned anew cannot be found forgotten",
                "take them out: examples of other tasks than this one show what was forgotten",
            ).at(first.source),
        )

    def change(self, base: Sequence[Answer], tuned: Sequence[Answer]) -> SkillChange:
        """The change of the mean score; near-duplicates and groups count as belonging together.

        Raises:
            DataError: No example could be scored for both.
        """
        clusters = cluster_by_id(self.examples)
        before, after = (score_answers(self.grader, self.examples, answers) for answers in (base, tuned))
        title = f"What must still work ({self.grader.title})"
        return skill_change(before, after, [clusters[one.id] for one in self.examples], name=OWN, title=title)


def read_must_still_work(path: Path, columns: ColumnMapping | None = None, *, fewest: int = _FEWEST) -> MustStillWork:
    """The examples of a file or folder, with the grader that fits their answers.

    Labels must be the same label, JSON answers are compared field by field, short texts must be the same text, and of long ones
    chrF says how much is alike. Rows that cannot be read are left out, and are among the findings.

    Args:
        path: The file or folder.
        columns: Where the table's columns are.
        fewest: Examples that there have to be.

    Raises:
        DataError: They cannot be read, or are fewer.
        ConfigError: As `read_examples`.
    """
    dataset = read_examples(path, columns=columns)
    examples = dataset.examples
    if len(examples) < fewest:
        raise DataError(
            f"there is {len(examples)} example of what must still work, and one alone can show nothing",
            where=str(path),
            remedy="give some more: with 100, a loss of about 10 points can be seen",
        )
    task = recognise_task(examples)
    grader = grader_by_name(_grader_name(task, examples), task, examples)
    return MustStillWork(
        examples=examples,
        task=task,
        grader=grader,
        findings=dataset.findings,
        sha256=sha256_of_json(sorted(dataset.file_sha256.values())),
    )


def _grader_name(task: Task, examples: Sequence[Example]) -> str:
    match task.kind:
        case TaskKind.LABELS:
            return "exact_label"
        case TaskKind.JSON:
            return "json_fields"
        case TaskKind.TEXT:
            is_short = median(len(example.answer.split()) for example in examples) <= _EXACT_WORDS
            return "exact_text" if is_short else "chrf"
