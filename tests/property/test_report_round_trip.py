"""parse(print(x)) == x, for reports and judgements with any content whatever."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path
from tempfile import TemporaryDirectory
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fettle.judging.document import FILE, print_judged, read_judged
from fettle.judging.records import JudgedComparison
from fettle.report_records import StudyReport
from fettle.study.report import parse_report, print_report

LEAVES = {
    str: st.text(max_size=12),
    int: st.integers(-(2**53), 2**53),
    float: st.floats(allow_nan=False, allow_infinity=False),
    bool: st.booleans(),
    NoneType: st.none(),
}


def anything_of(kind: Any) -> st.SearchStrategy:
    """Any value of a record's field type, with finite numbers only."""
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Any:  # a JSON value
        return st.recursive(
            st.one_of(*LEAVES.values()),
            lambda inner: st.lists(inner, max_size=2) | st.dictionaries(LEAVES[str], inner, max_size=2),
        )
    if kind in LEAVES:
        return LEAVES[kind]
    if origin in (Union, UnionType):
        return st.one_of(*map(anything_of, arguments))
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin is tuple:
        return st.lists(anything_of(arguments[0]), max_size=2).map(tuple)
    if origin is Mapping:
        return st.dictionaries(LEAVES[str], anything_of(arguments[1]), max_size=2)
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        return st.builds(kind, **{field.name: anything_of(hints[field.name]) for field in fields(kind)})
    assert issubclass(kind, Enum), kind
    return st.sampled_from(kind)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(anything_of(StudyReport))
def test_parsing_what_was_printed_gives_the_report_back(report):
    assert parse_report(print_report(report), where="memory") == report


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.lists(anything_of(JudgedComparison), max_size=2))
def test_judgements_that_were_printed_are_read_back_the_same(judged):
    with TemporaryDirectory() as folder:
        file = Path(folder) / FILE
        file.write_text(print_judged(judged), encoding="utf-8")
        assert read_judged(file) == judged
