"""What a judge shall look at: the user's own words, or what the wanted answers have in common."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fettle.errors import ConfigError
from fettle.records import Example, Location, Message, TaskKind
from fettle.report_records import StudyReport
from fettle.scoring.graders.house_style import learn_house_style

MOST_CHARACTERS = 20_000
GENERAL = (
    "The better answer does what the input asks for: it is correct, leaves out nothing that is needed, and makes up nothing. "
    "An answer is not better for being longer, politer or more confident."
)
"""What makes any answer better."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rubric:
    """What counts, in words for the judge."""

    text: str
    origin: str
    """Where it comes from, in words for the reader of the report."""


def read_rubric(file: Path) -> Rubric:
    """The user's rubric, a text file.

    Raises:
        ConfigError: It cannot be read, is empty, or too long to be put before every pair.
    """
    where, remedy = f"--rubric {file}", "give a UTF-8 text file that says in words what makes an answer better"
    try:
        text = file.read_text(encoding="utf-8-sig").strip()
    except (OSError, UnicodeDecodeError) as error:
        problem = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(f"this file cannot be read ({problem})", where=where, remedy=remedy) from error
    if not text:
        raise ConfigError("the rubric is empty", where=where, remedy=remedy)
    if len(text) > MOST_CHARACTERS:
        raise ConfigError(
            f"the rubric has {len(text):,} characters, at most {MOST_CHARACTERS:,} are allowed: it is sent with every pair",
            where=where,
            remedy="shorten it to what decides between two answers",
        )
    return Rubric(text=text, origin=f"given by the user ({file.name})")


def derived_rubric(report: StudyReport) -> Rubric:
    """What any answer should be, and the house style where the wanted answers of the test rows are texts that have one.

    The style is that of the `house_style` grader, in words; 20 wanted answers are needed to see one.
    """
    examples = [
        Example(
            id=row.example_id,
            messages=(Message(role="user", content=row.input_text), Message(role="assistant", content=row.wanted)),
            source=Location(file=row.source, line=1),
        )
        for row in report.rows
    ]
    rules = learn_house_style(examples).rules if report.task.kind is TaskKind.TEXT else ()
    if not rules:
        return Rubric(text=GENERAL, origin="the general one: no house style was found in the wanted answers")
    habits = "\n".join(f"- {rule.describe()}" for rule in rules)
    text = f"{GENERAL}\nOf two answers that are equally right, the better one is in the house style. Such an answer\n{habits}"
    return Rubric(text=text, origin=f"the general one, and {len(rules)} habits of the wanted answers")
