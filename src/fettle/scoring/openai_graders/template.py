"""Templates: `{{ item.people[0].name }}` and `{{ sample.output_text }}` in a text.

Filled in one pass: what comes from data is never looked at again, so that a row cannot read what the template does not.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from fettle.scoring.openai_grader import Attempt, InvalidGraderError, MissingVariableError, Variable

_BRACES = re.compile(r"\{\{|\}\}")
_VARIABLE = re.compile(r"\s*(?P<namespace>\w+)(?P<path>(?:\.[\w-]+|\[\d{1,9}\])*)\s*")
_STEP = re.compile(r"\.([\w-]+)|\[(\d+)\]")
_NAMESPACES = ("item", "sample")
_REMEDY = "write {{ item.KEY }} or {{ sample.output_text }}, with dotted names and [0] indexes"


@dataclass(frozen=True, slots=True)
class Template:
    """Texts, and variables between them."""

    parts: tuple[str | Variable, ...]

    @property
    def variables(self) -> tuple[Variable, ...]:
        """What it reads, in order."""
        return tuple(part for part in self.parts if isinstance(part, Variable))

    def fill(self, attempt: Attempt) -> str:
        """The text for one attempt: strings as they are, everything else as JSON.

        Raises:
            MissingVariableError: The attempt does not have a variable.
        """
        return "".join(part if isinstance(part, str) else _as_text(look_up(part, attempt)) for part in self.parts)


def parse_template(text: str, where: str) -> Template:
    """Read a template.

    >>> [str(part) for part in parse_template("Is {{item.names[0]}} right?", "input").parts]
    ['Is ', 'item.names[0]', ' right?']

    Raises:
        InvalidGraderError: Braces do not pair, or stand around something that is neither `item` nor `sample`.
    """
    parts: list[str | Variable] = []
    end, opened = 0, None
    for braces in _BRACES.finditer(text):
        if (braces[0] == "{{") == (opened is not None):
            break
        if opened is None:
            parts.append(text[end : braces.start()])
            opened = end = braces.end()
        else:
            parts.append(_variable(text[opened : braces.start()], where))
            opened, end = None, braces.end()
    else:
        if opened is None:
            return Template((*parts, text[end:]))
    raise InvalidGraderError(
        "the braces of the template do not pair: every {{ needs its }}, and the reverse",
        where=where,
        remedy=f"{_REMEDY}; where braces are meant as text, put a space between two of them",
    )


def look_up(variable: Variable, attempt: Attempt) -> Any:
    """The value of a variable.

    Raises:
        MissingVariableError: There is none.
    """
    value: Any = dict(attempt.item) if variable.namespace == "item" else attempt.sample.variables()
    for step in variable.path:
        if not _has(value, step):
            raise MissingVariableError(variable, attempt)
        value = value[step]
    return value


def _has(value: Any, step: str | int) -> bool:
    if isinstance(step, str):
        return isinstance(value, dict) and step in value
    return isinstance(value, list) and step < len(value)


def _variable(text: str, where: str) -> Variable:
    found = _VARIABLE.fullmatch(text)
    if found is None:
        raise InvalidGraderError(f"{_shown(text)} is no variable", where=where, remedy=_REMEDY)
    if found["namespace"] not in _NAMESPACES:
        raise InvalidGraderError(
            f"{_shown(text)} starts with {found['namespace'][:60]!r}, and templates know `item` and `sample` alone",
            where=where,
            remedy=_REMEDY,
        )
    path = tuple(name or int(index) for name, index in _STEP.findall(found["path"]))
    return Variable(namespace=found["namespace"], path=path)


def _shown(text: str) -> str:
    return "{{" + (text if len(text) <= 60 else f"{text[:60]}…") + "}}"


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
