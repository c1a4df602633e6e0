"""`fettle search`: the passages of an index that a question finds."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from fettle.cli.index import ProjectOption
from fettle.cli.named_index import named_index
from fettle.cli.tables import one_line
from fettle.errors import ConfigError

if TYPE_CHECKING:
    from fettle.retrieval.filters import Condition
    from fettle.retrieval.records import AttributeValue, Found
    from fettle.retrieval.stored import StoredPassages

_CONDITION = re.compile(r"\s*(?P<key>[^=!<>]+?)\s*(?P<operator>!=|>=|<=|=|<|>)\s*(?P<value>.*?)\s*", re.DOTALL)
_QUOTED = re.compile(r"(['\"])(?P<text>.*)\1", re.DOTALL)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)")
_WIDTH = 100
_MOST_HEADING_CHARACTERS = 200
_MOST_NAMED = 20


class MethodOption(StrEnum):
    """How passages are looked for."""

    VECTOR = "vector"
    FULL_TEXT = "full_text"
    HYBRID = "hybrid"


def search(
    name: Annotated[str, typer.Argument(help="The index, as `fettle indexes list` shows it, or its id.")],
    question: Annotated[str, typer.Argument(help="What is looked for.")],
    num_passages: Annotated[int, typer.Option("-k", min=1, max=1000, help="Passages shown at most.")] = 5,
    method: Annotated[
        MethodOption, typer.Option(help="Meaning, words, or both with their ranks fused.")
    ] = MethodOption.HYBRID,
    reranker: Annotated[
        str | None,
        typer.Option(
            help="What looks at the best candidates once more: late-interaction, which comes with Fettle, or a cross-encoder on "
            "this machine, by its folder or as org/name."
        ),
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CONDITION",
            help="What attributes of a document must be: lang=en, year>=2025, status!=draft, postcode='01067' (a text). "
            "May be given again: all must hold.",
        ),
    ] = None,
    project: ProjectOption = "default",
    as_json: Annotated[bool, typer.Option("--json", help="Print what was found as JSON.")] = False,
) -> None:
    """Show the passages of an index that a QUESTION finds, the best first."""
    from fettle.cli.progress import ProgressBars
    from fettle.cli.store import open_store
    from fettle.retrieval.embedders.registry import embedder_by_name
    from fettle.retrieval.filters import AllOf
    from fettle.retrieval.records import SearchMethod, SearchSettings
    from fettle.retrieval.search import IndexSearch
    from fettle.retrieval.stored import StoredPassages
    from fettle.retrieval.vector_stores import open_searchable
    from fettle.retrieval.vectors import require_same_vectors
    from fettle.store.indexes import use_index

    conditions = tuple(map(_condition, where or ()))
    if not question.strip():
        raise ConfigError("the question is empty", where="QUESTION", remedy="say what is looked for")
    store = open_store()
    with store.writing() as connection:
        index = named_index(connection, project, name)
        use_index(connection, index.id)
    with ProgressBars(Console(stderr=True)) as bars:
        opened = open_searchable(store, index, bars)
    settings = SearchSettings(method=SearchMethod(method.value), num_passages=num_passages, reranker=reranker)
    embedder = embedder_by_name(index.embedder)
    retriever = IndexSearch(opened, embedder, settings)
    if settings.method is not SearchMethod.FULL_TEXT:
        require_same_vectors(store, index, embedder)
    found = retriever.search(question, where=AllOf(filters=conditions) if conditions else None)
    if as_json:
        typer.echo(json.dumps([_as_json(one) for one in found], ensure_ascii=False, indent=1))
    else:
        _print(found)
        for hint in () if found else _unfulfilled(conditions, StoredPassages(store, index.id)):
            typer.echo(hint)


def _unfulfilled(conditions: Sequence[Condition], passages: StoredPassages) -> Iterator[str]:
    """Why a condition leaves nothing of any document, where it is that its attribute is not there, or never of its kind."""
    if not conditions:
        return
    attributes = list(passages.attributes().values())
    for condition in conditions:
        values = [of_one[condition.key] for of_one in attributes if condition.key in of_one]
        kinds = sorted({_kind(value) for value in values})
        if not values:
            known = ", ".join(sorted({key for of_one in attributes for key in of_one})[:_MOST_NAMED]) or "none"
            yield f"No document has the attribute {condition.key!r}. There are: {known}."
        elif _kind(condition.value) not in kinds:
            spelled = "; a text that reads like a number needs quotation marks" if kinds == ["a text"] else ""
            is_kept_as = f"{condition.key!r} is {' or '.join(kinds)} in documents"
            yield f"{is_kept_as}, and compared with {_kind(condition.value)} here{spelled}."


def _kind(value: object) -> str:
    return "true or false" if isinstance(value, bool) else "a text" if isinstance(value, str) else "a number"


def _condition(text: str) -> Condition:
    from fettle.retrieval.filters import Condition, Operator

    parts = _CONDITION.fullmatch(text)
    if parts is None:
        raise ConfigError(
            f"expected an attribute, a comparison and a value, and it is {text!r}",
            where="--where",
            remedy="write it like lang=en, year>=2025 or status!=draft",
        )
    operators = {
        "=": Operator.EQUAL, "!=": Operator.NOT_EQUAL, ">": Operator.GREATER, ">=": Operator.AT_LEAST,
        "<": Operator.LESS, "<=": Operator.AT_MOST,
    }  # fmt: skip
    return Condition(key=parts["key"], operator=operators[parts["operator"]], value=_value(parts["value"]))


def _value(text: str) -> AttributeValue:
    """A number or a truth where it reads like one, unless it is in quotation marks.

    >>> [_value(text) for text in ("en", "2025", "'01067'", "true")]
    ['en', 2025.0, '01067', True]
    """
    if quoted := _QUOTED.fullmatch(text):
        return quoted["text"]
    if text in ("true", "false"):
        return text == "true"
    return float(text) if _NUMBER.fullmatch(text) else text


def _as_json(found: Found) -> dict[str, Any]:
    passage = found.passage
    return {
        "rank": found.rank,
        "score": found.score,
        "id": passage.id,
        "document": passage.document_id,
        "source": passage.source,
        "heading": passage.heading,
        "page": passage.page,
        "attributes": dict(passage.attributes),
        "text": passage.text,
    }


def _print(found: Sequence[Found]) -> None:
    if not found:
        typer.echo("Nothing was found.")
    for one in found:
        passage = one.passage
        page = f", page {passage.page}" if passage.page is not None else ""
        typer.echo(f"{one.rank}. {one_line(passage.source, _MOST_HEADING_CHARACTERS)}{page}  (score {one.score:.4g})")
        if passage.heading:
            typer.echo(f"   {one_line(passage.heading, _MOST_HEADING_CHARACTERS)}")
        for line in passage.text.splitlines():
            typer.echo(_indented(line))
        typer.echo("")


def _indented(line: str) -> str:
    """A line that can only be read: what is in a document must not steer the terminal."""
    plain = "".join(character if character.isprintable() else "\ufffd" for character in line.expandtabs(4))
    indent = "     "
    return textwrap.fill(plain, _WIDTH, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)
