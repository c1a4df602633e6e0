"""Figures as people read them, where the doctests leave off."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fettle.study import figures


@given(st.floats(-1e9, 1e9, allow_nan=False), st.integers(0, 4))
def test_zero_has_no_sign_and_every_other_number_keeps_its_own(value, decimals):
    text = figures.signed(value, decimals)
    is_zero = not set(text) & set("123456789")
    assert text[0] == "0" if is_zero else text[0] == ("+" if value > 0 else figures.MINUS)


@given(st.floats(1e-9, 1e9, allow_nan=False))
def test_significant_figures_keep_the_value(value):
    assert float(figures.significant(value, 4).replace(",", "")) == pytest.approx(value, rel=1e-3)


@pytest.mark.parametrize(("seconds", "text"), [(59.96, "1 min 0 s"), (3599.6, "1 h 0 min"), (359_999, "99 h 59 min")])
def test_durations_never_show_sixty(seconds, text):
    assert figures.duration(seconds).replace("\u00a0", " ") == text


def test_an_empty_or_unmeasured_column_stays_open():
    assert figures.column([]) == ()
    assert figures.column([None, None]) == ("–", "–")


@given(st.floats(0, 1))
def test_p_values_never_round_to_zero_or_above_one(value):
    text = figures.p_value(value)
    assert text.startswith("<") if value < 0.001 else 0 < float(text) <= 1


def test_identifiers_become_words():
    assert figures.heading("json_valid") == "JSON valid by its schema"
    assert figures.spoken("___") == "___"
    assert figures.setting(False) == "no"
