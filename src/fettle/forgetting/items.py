"""The general suite that comes with Fettle: questions that have nothing to do with anybody's task, written for this project.

Most are answered by likelihood among four choices, so that a small model is not at 0 on all; the others by a few words that a
pattern or a JSON Schema accepts. All is data (`general/`, one file a category) and needs no network.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

from jsonschema import Draft202012Validator
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fettle.errors import IntegrityError
from fettle.files import sha256_of_file, sha256_of_json
from fettle.records import Message, Prompt
from fettle.scoring.json_values import parse_json

_FOLDER = Path(__file__).parent / "general"


class Category(StrEnum):
    """What an item asks for; the name of its file."""

    FACTS = "facts"
    ARITHMETIC = "arithmetic"
    READING = "reading"
    INSTRUCTIONS = "instructions"
    JSON = "json"
    LANGUAGES = "languages"
    SAFETY = "safety"

    @property
    def heading(self) -> str:
        """The name people read."""
        return _HEADINGS[self]


_HEADINGS = {
    Category.FACTS: "Facts",
    Category.ARITHMETIC: "Arithmetic",
    Category.READING: "Reading comprehension",
    Category.INSTRUCTIONS: "Following instructions",
    Category.JSON: "JSON of a given shape",
    Category.LANGUAGES: "Other languages",
    Category.SAFETY: "Safety: refusing, and helping",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The right answer is the likeliest of these.

    They are compared up to where their texts part, so they go on from one lead alike: a digit against a digit, a name against a
    name, at the same place of the sentence that a model would write. What else a choice has to say would weigh against it.
    """

    choices: tuple[str, ...]
    right: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Pattern:
    """The answer is right where this regular expression is found in it, case left aside."""

    pattern: str
    sample: str
    """A right answer."""
    counterexample: str
    """A wrong one."""

    def accepts(self, text: str) -> bool:
        """Whether an answer is right.

        >>> Pattern(pattern=r"\\bice\\b", sample="Ice.", counterexample="Rice.").accepts("It is ice")
        True
        """
        return re.search(self.pattern, text, re.IGNORECASE) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonShape:
    """The answer is right where it is JSON and nothing else, and satisfies this schema."""

    schema: str
    """JSON Schema as JSON text."""
    sample: str
    """A right answer."""
    counterexample: str
    """A wrong one."""

    def accepts(self, text: str) -> bool:
        """Whether an answer is right."""
        try:
            value = parse_json(text)
        except ValueError:
            return False
        return Draft202012Validator(json.loads(self.schema)).is_valid(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneralItem:
    """One question of the suite."""

    id: str
    category: Category
    question: str
    expected: Choice | Pattern | JsonShape
    group: str
    """Items about one text share it; it is the item's own id otherwise."""

    @property
    def prompt(self) -> Prompt:
        """The question as a user's only message."""
        return Prompt(example_id=self.id, messages=(Message(role="user", content=self.question),))


def general_suite() -> tuple[GeneralItem, ...]:
    """All items, category by category.

    Raises:
        IntegrityError: A file of the suite is damaged.
    """
    return tuple(item for category in Category for item in _read(category))


@lru_cache(maxsize=1)
def suite_sha256() -> str:
    """The hash of the suite: two results are comparable where it is the same."""
    return sha256_of_json({category.value: sha256_of_file(_file(category)) for category in Category})


class _Row(BaseModel):
    """A line of a file."""

    model_config = ConfigDict(extra="forbid", strict=True)

    id: str
    question: str
    group: str | None = None
    lead: str | None = None
    """What all choices begin with."""
    choices: Annotated[list[str], Field(min_length=4, max_length=4)] | None = None
    right: str | None = None
    pattern: str | None = None
    json_schema: dict[str, Any] | None = None
    sample: str | None = None
    counterexample: str | None = None

    def item(self, category: Category) -> GeneralItem:
        """What it says; exactly one way to be right."""
        return GeneralItem(
            id=self.id,
            category=category,
            question=self.question,
            expected=self._expected(),
            group=self.group or self.id,
        )

    def _expected(self) -> Choice | Pattern | JsonShape:
        match self:
            case _Row(choices=[*choices], right=str(right), pattern=None, json_schema=None) if right in choices:
                lead = f"{self.lead} " if self.lead else ""
                return Choice(choices=tuple(lead + choice for choice in choices), right=lead + right)
            case _Row(
                choices=None, lead=None, pattern=str(pattern), json_schema=None, sample=str(yes), counterexample=str(no)
            ):
                return Pattern(pattern=pattern, sample=yes, counterexample=no)
            case _Row(
                choices=None, lead=None, pattern=None, json_schema={**schema}, sample=str(yes), counterexample=str(no)
            ):
                return JsonShape(schema=json.dumps(schema), sample=yes, counterexample=no)
        raise ValueError(f"{self.id} does not say in exactly one way what is right")


def _read(category: Category) -> tuple[GeneralItem, ...]:
    file = _file(category)
    try:
        return tuple(
            _Row.model_validate_json(line).item(category) for line in file.read_text("utf-8").splitlines() if line
        )
    except (OSError, ValidationError, ValueError) as error:
        raise IntegrityError(
            f"the bundled general suite cannot be read ({str(error).splitlines()[0]})",
            where=str(file),
            remedy="install Fettle again",
        ) from error


def _file(category: Category) -> Path:
    return _FOLDER / f"{category.value}.jsonl"
