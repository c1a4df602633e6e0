"""Conditions on documents' attributes as PostgreSQL evaluates them: what `filters.fulfils` says, row by row."""

from __future__ import annotations

import math

from sqlalchemy import ARRAY, ColumnElement, Numeric, Text, and_, case, cast, false, func, literal, not_, or_, true
from sqlalchemy.dialects.postgresql import JSONB

from fettle.retrieval.filters import AllOf, AnyOf, Condition, Filter, Operator
from fettle.retrieval.records import AttributeValue
from fettle.retrieval.stored import storable


def as_sql(where: Filter, attributes: ColumnElement[object]) -> ColumnElement[bool]:
    """The same condition in SQL, true or false and never null.

    Numbers are compared as the decimals that JSON has, which is what Python makes of them up to 2^53.

    Args:
        where: What the attributes must fulfil.
        attributes: A column of JSON objects.
    """
    match where:
        case AllOf(filters=filters):
            return and_(true(), *(as_sql(one, attributes) for one in filters))
        case AnyOf(filters=filters):
            return or_(false(), *(as_sql(one, attributes) for one in filters))
        case Condition():
            return func.coalesce(_holds(cast(attributes, JSONB)[storable(where.key)], where), false())


def _holds(found: ColumnElement[object], condition: Condition) -> ColumnElement[bool]:
    """Whether the condition holds, null or false where there is no such attribute."""
    value, operator = condition.value, condition.operator
    if isinstance(value, tuple):
        is_in = func.coalesce(or_(false(), *(_same(found, one) for one in value)), false())
        return is_in if operator is Operator.ONE_OF else not_(is_in)
    match operator:
        case Operator.EQUAL:
            return _same(found, value)
        case Operator.NOT_EQUAL:
            return not_(func.coalesce(_same(found, value), false()))
    left, right = _ordered(found, value)
    match operator:
        case Operator.GREATER:
            return left > right
        case Operator.AT_LEAST:
            return left >= right
        case Operator.LESS:
            return left < right
    return left <= right


def _same(found: ColumnElement[object], value: AttributeValue) -> ColumnElement[bool]:
    """Equal and of one kind, as values of JSON are."""
    if isinstance(value, float) and not math.isfinite(value):
        return false()
    return found == literal(storable(value) if isinstance(value, str) else value, JSONB)


def _ordered(
    found: ColumnElement[object], value: AttributeValue
) -> tuple[ColumnElement[object], ColumnElement[object]]:
    """Both sides of a comparison, the left one null where they are not of one kind; true counts as 1, as in Python."""
    kind, plain = func.jsonb_typeof(found), found.op("#>>", return_type=Text())(literal([], ARRAY(Text)))
    if isinstance(value, str):
        text = case((kind == "string", plain))
        return text.collate("C"), literal(storable(value))  # by code points, as Python does
    number = case((kind == "number", cast(plain, Numeric)), (kind == "boolean", case((plain == "true", 1), else_=0)))
    return number, cast(literal(str(float(value) if isinstance(value, bool) else value)), Numeric)
