"""Conditions on the attributes of documents, in the terms of OpenAI's vector stores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from fettle.retrieval.records import AttributeValue


class Operator(StrEnum):
    """How an attribute is compared with a value."""

    EQUAL = "eq"
    NOT_EQUAL = "ne"
    GREATER = "gt"
    AT_LEAST = "gte"
    LESS = "lt"
    AT_MOST = "lte"
    ONE_OF = "in"
    NONE_OF = "nin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One attribute compared with a value. A document without the attribute fulfils `ne` and `nin` alone."""

    key: str
    operator: Operator
    value: AttributeValue | tuple[AttributeValue, ...]
    """A tuple for `in` and `nin`, and for no other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AllOf:
    """Every one of them."""

    filters: tuple[Filter, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AnyOf:
    """At least one of them."""

    filters: tuple[Filter, ...]


Filter = Condition | AllOf | AnyOf


def fulfils(attributes: Mapping[str, AttributeValue], where: Filter) -> bool:
    """Whether the attributes of a document fulfil a filter. Text is never less or greater than a number.

    >>> fulfils({"lang": "en", "year": 2026}, AllOf(filters=(
    ...     Condition(key="lang", operator=Operator.ONE_OF, value=("en", "de")),
    ...     Condition(key="year", operator=Operator.AT_LEAST, value=2025))))
    True
    """
    match where:
        case AllOf(filters=filters):
            return all(fulfils(attributes, one) for one in filters)
        case AnyOf(filters=filters):
            return any(fulfils(attributes, one) for one in filters)
        case Condition():
            return _holds(attributes.get(where.key), where)


def _holds(found: AttributeValue | None, condition: Condition) -> bool:
    value = condition.value
    if isinstance(value, tuple):
        is_in = found is not None and any(_same(found, one) for one in value)
        return is_in if condition.operator is Operator.ONE_OF else not is_in
    match condition.operator:
        case Operator.EQUAL:
            return found is not None and _same(found, value)
        case Operator.NOT_EQUAL:
            return found is None or not _same(found, value)
    if found is None or isinstance(found, str) != isinstance(value, str):
        return False
    less, greater = found < value, found > value  # pyright: ignore[reportOperatorIssue] (both are texts, or both numbers)
    return {
        Operator.GREATER: greater,
        Operator.AT_LEAST: not less,
        Operator.LESS: less,
        Operator.AT_MOST: not greater,
    }[condition.operator]


def _same(found: AttributeValue, value: AttributeValue) -> bool:
    """Equal and of one kind: 1 is not true."""
    return isinstance(found, bool) == isinstance(value, bool) and found == value
