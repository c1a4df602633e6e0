"""What a search is asked for, in OpenAI's terms: the body of a search, and the tool that lets an answer search first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, StrictBool, StrictInt, ValidationError

from fettle.retrieval.filters import AllOf, AnyOf, Condition, Filter, Operator
from fettle.retrieval.records import AttributeValue
from fettle.server.errors import ApiError, invalid, validation_error
from fettle.server.wire import RequestBody, Text, storable

FILE_SEARCH = "file_search"
"""The type of the tool."""
_MOST_QUERIES = 16
_MOST_QUERY_CHARACTERS = 16_000
"""Of which an embedder reads the first few hundred words, and a search by words all."""
_MOST_CONDITIONS = 100
_MOST_NESTED = 8
_OPERATORS = {operator.value: operator for operator in Operator}
_LISTS = (Operator.ONE_OF, Operator.NONE_OF)

MaxResults = Annotated[StrictInt, Field(ge=1, le=50)]
_Query = Annotated[Text, Field(min_length=1, max_length=_MOST_QUERY_CHARACTERS)]


class RankingOptions(RequestBody):
    """How what is found is ordered, and what of it is left out."""

    ranker: Literal["none", "auto", "default-2024-11-15"] | None = None
    """All the same here: the order of the search."""
    score_threshold: Annotated[float, Field(ge=0, le=1, strict=True)] | None = None
    """What scores less is left out."""
    hybrid_search: Any = None

    def require_supported(self, where: str) -> None:
        """See that nothing is asked for that there is not.

        Raises:
            ApiError: Something is.
        """
        if self.hybrid_search is not None:
            message = (
                "`hybrid_search` is not supported by this server: words and vectors count as the search was tuned."
            )
            raise invalid(message, f"{where}.hybrid_search", "unsupported_value")


class SearchVectorStore(RequestBody):
    """The body of `POST /vector_stores/{vector_store_id}/search`."""

    query: _Query | Annotated[list[_Query], Field(min_length=1, max_length=_MOST_QUERIES)]
    filters: dict[str, Any] | None = None
    max_num_results: MaxResults = 10
    ranking_options: RankingOptions | None = None
    rewrite_query: StrictBool | None = None

    @property
    def queries(self) -> list[str]:
        """What is searched for."""
        return [self.query] if isinstance(self.query, str) else list(self.query)

    def where(self) -> Filter | None:
        """What the files' attributes must fulfil; None: anything.

        Raises:
            ApiError: The filter is none, or something is asked for that there is not.
        """
        if self.rewrite_query:
            message = "`rewrite_query` is not supported by this server: the query is searched for as it is."
            raise invalid(message, "rewrite_query", "unsupported_value")
        if self.ranking_options is not None:
            self.ranking_options.require_supported("ranking_options")
        return None if self.filters is None else read_filter(self.filters, "filters")

    @property
    def least_score(self) -> float:
        """What scores less is left out."""
        return least_score(self.ranking_options)


class FileSearchTool(RequestBody):
    """A tool of type `file_search`: passages are looked for before the answer is written."""

    type: Literal["file_search"]
    vector_store_ids: Annotated[list[Text], Field(min_length=1)]
    max_num_results: MaxResults | None = None
    filters: dict[str, Any] | None = None
    ranking_options: RankingOptions | None = None

    def where(self, where: str = "tools") -> Filter | None:
        """What the files' attributes must fulfil; None: anything.

        Raises:
            ApiError: The filter is none.
        """
        return None if self.filters is None else read_filter(self.filters, f"{where}.filters")

    def checked(self, where: str) -> FileSearchTool:
        """Itself.

        Raises:
            ApiError: Several stores are to be searched, or something is asked for that there is not.
        """
        if len(self.vector_store_ids) > 1:
            message = "One vector store is searched for an answer; `vector_store_ids` names several."
            raise invalid(message, f"{where}.vector_store_ids", "unsupported_value")
        self.where(where)
        if self.ranking_options is not None:
            self.ranking_options.require_supported(f"{where}.ranking_options")
        return self


def search_tool(tools: Sequence[dict[str, Any]]) -> FileSearchTool | None:
    """What some tools want to be searched; None: nothing.

    Raises:
        ApiError: There are several searches among them, or one is not as it should be.
    """
    places = [place for place, tool in enumerate(tools) if tool.get("type") == FILE_SEARCH]
    if not places:
        return None
    if len(places) > 1:
        raise invalid(f"One tool of type '{FILE_SEARCH}' is taken, and there are {len(places)}.", f"tools[{places[1]}]")
    try:
        return FileSearchTool.model_validate(tools[places[0]]).checked(f"tools[{places[0]}]")
    except ValidationError as error:
        mistakes = [{**one, "loc": ("tools", places[0], *one["loc"])} for one in error.errors()]
        raise validation_error(mistakes) from error


class SearchContent(BaseModel):
    """The text of a passage."""

    type: Literal["text"] = "text"
    text: str


class SearchResult(BaseModel):
    """A passage that was found."""

    file_id: str
    """Of a document that was read from a folder: its id, which is its path there."""
    filename: str
    score: float
    """From 0 to 1."""
    attributes: dict[str, AttributeValue]
    content: list[SearchContent]


class SearchPage(BaseModel):
    """All that was found."""

    object: Literal["vector_store.search_results.page"] = "vector_store.search_results.page"
    search_query: list[str]
    data: list[SearchResult]
    has_more: Literal[False] = False
    next_page: None = None


def least_score(options: RankingOptions | None) -> float:
    """The score below which nothing is shown."""
    return 0.0 if options is None or options.score_threshold is None else options.score_threshold


def read_filter(given: Mapping[str, Any], where: str) -> Filter:
    """A filter in OpenAI's form.

    >>> read_filter({"type": "gte", "key": "year", "value": 2025}, "filters").operator.value
    'gte'

    Raises:
        ApiError: It is none; the message says where.
    """
    found = _read(given, where, depth=1)
    if (count := _num_conditions(found)) > _MOST_CONDITIONS:
        raise invalid(f"`{where}` has {count} conditions, and at most {_MOST_CONDITIONS} are taken.", where)
    return found


def _read(given: Any, where: str, *, depth: int) -> Filter:
    if depth > _MOST_NESTED:
        raise invalid(f"`{where}` is nested more than {_MOST_NESTED} deep.", where)
    match given:
        case {"type": "and" | "or" as kind, "filters": [_, *_] as parts, **others} if not others:
            filters = tuple(_read(part, f"{where}.filters[{n}]", depth=depth + 1) for n, part in enumerate(parts))
            return AllOf(filters=filters) if kind == "and" else AnyOf(filters=filters)
        case {"type": str(kind), "key": str(key), "value": value, **others} if kind in _OPERATORS and not others:
            operator = _OPERATORS[kind]
            return Condition(key=_text(key, f"{where}.key"), operator=operator, value=_value(value, operator, where))
        case {"type": str(kind)} if kind not in (*_OPERATORS, "and", "or"):
            known = ", ".join((*_OPERATORS, "and", "or"))
            raise invalid(f"`{where}.type` is '{kind[:40]}'; known are {known}.", f"{where}.type")
        case _:
            message = (
                f"`{where}` is no filter: it has `type`, `key` and `value`, or `type` ('and', 'or') and `filters`."
            )
            raise invalid(message, where)


def _value(value: Any, operator: Operator, where: str) -> AttributeValue | tuple[AttributeValue, ...]:
    place = f"{where}.value"
    if operator not in _LISTS:
        return _one_value(value, place)
    if not isinstance(value, list):
        raise invalid(f"`{place}` is a list for '{operator.value}'.", place, "invalid_type")
    return tuple(_one_value(one, f"{place}[{n}]") for n, one in enumerate(value))


def _one_value(value: Any, where: str) -> AttributeValue:
    match value:
        case str():
            return _text(value, where)
        case bool() | int() | float() if abs(value) < 1e300:
            return value
        case _:
            raise invalid(f"`{where}` is a text, a number, true or false.", where, "invalid_type")


def _text(text: str, where: str) -> str:
    try:
        return storable(text)
    except ValueError as error:
        raise ApiError(f"`{where}` is {error}.", param=where, code="invalid_value") from error


def _num_conditions(where: Filter) -> int:
    if isinstance(where, Condition):
        return len(where.value) if isinstance(where.value, tuple) else 1
    return sum(map(_num_conditions, where.filters))
