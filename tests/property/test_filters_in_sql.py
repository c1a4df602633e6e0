"""Filters in PostgreSQL mean what they mean in Python."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import JSON, Connection, Integer, column, func, literal, select

from fettle.retrieval.filters import AllOf, AnyOf, Condition, Filter, Operator, fulfils
from fettle.retrieval.indexes.pgvector_filters import as_sql
from fettle.retrieval.stored import storable
from fettle.store.database import Store

_FEW = ["", "a", "b", "é", "Z", "true", "1", "10", "9", "😀", "a\ufffdb", "'", '"', "%s", ":x", "{}", "null"]
_texts = st.sampled_from(_FEW) | st.text(max_size=3).map(storable)
_numbers = (
    st.integers(min_value=-3, max_value=3)
    | st.integers(min_value=-(2**53), max_value=2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from([0.1, 0.1 + 0.2, 0.3, -0.0, 1e308, 5e-324, 1e22])
)
_values = _texts | _numbers | st.booleans()
_keys = st.sampled_from(["a", "b", "it's", "päth", "0", "a.b", ""])
_singles = [one for one in Operator if one not in (Operator.ONE_OF, Operator.NONE_OF)]
_conditions = st.builds(
    Condition, key=_keys, operator=st.sampled_from(_singles), value=_values | st.sampled_from([float("inf")])
) | st.builds(
    Condition,
    key=_keys,
    operator=st.sampled_from([Operator.ONE_OF, Operator.NONE_OF]),
    value=st.lists(_values, max_size=3).map(tuple),
)
_filters: st.SearchStrategy[Filter] = st.recursive(
    _conditions,
    lambda inner: (
        st.builds(AllOf, filters=st.lists(inner, max_size=3).map(tuple))
        | st.builds(AnyOf, filters=st.lists(inner, max_size=3).map(tuple))
    ),
    max_leaves=5,
)
_attributes = st.lists(st.dictionaries(_keys, _values, max_size=4), min_size=1, max_size=12)


@pytest.fixture
def connection(store: Store) -> Iterator[Connection]:
    if not store.is_postgresql:
        pytest.skip("about PostgreSQL (`make test-postgres`)")
    with store.reading() as connection:
        yield connection


@given(rows=_attributes, where=_filters)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
def test_the_database_and_python_let_the_same_documents_through(
    connection: Connection, rows: list[dict[str, Any]], where: Filter
) -> None:
    told = func.json_array_elements(literal(rows, JSON)).table_valued(
        column("attributes", JSON), with_ordinality="place", name="told"
    )
    told = told.render_derived()
    wanted = select(told.c.place.cast(Integer)).where(as_sql(where, told.c.attributes)).order_by(told.c.place)
    expected = [place for place, row in enumerate(rows, start=1) if fulfils(row, where)]
    with connection.begin_nested():
        assert connection.execute(wanted).scalars().all() == expected
