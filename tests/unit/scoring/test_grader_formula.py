import math

import pytest

from fettle.errors import ConfigError
from fettle.scoring.openai_graders.formula import FormulaResultError, parse_formula

REWARDS = {"a": 1.0, "b": 0.5, "größe": 4.0, "min": 7.0}


def value(text: str) -> float:
    return parse_formula(text, REWARDS, "calculate_output").value(REWARDS)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("1", 1),
        (" .5e1 ", 5),
        ("a + b", 1.5),
        ("1 - 2 - 3", -4),
        ("8 / 2 / 2", 2),
        ("1 + 2 * 3", 7),
        ("(1 + 2) * 3", 9),
        ("-2 ^ 2", -4),
        ("2 ^ -1", 0.5),
        ("2 ^ 3 ^ 2", 512),
        ("--a", 1),
        ("+a * -b", -0.5),
        ("0.8*a + 0.2*b", 0.9),
        ("min(a, b, 3) + max(b)", 1.0),
        ("abs(-b) + floor(1.9) + ceil(1.1)", 3.5),
        ("exp(0) + sqrt(größe) + log(1)", 3),
        ("min + min(1, 2)", 8),
        ("+".join(["1"] * 2000), 2000),
    ],
)
def test_values(text: str, wanted: float) -> None:
    assert value(text) == pytest.approx(wanted)


@pytest.mark.parametrize(
    "text",
    ["", " ", "1 +", "* 1", "(1", "1)", "1 2", "a b", "c", "a.b", "a[0]", "a ** b", "a // b", "a % b", "a < b", "a if b else 1",
     "lambda: 1", "__import__('os')", "open(1)", "min", "min()", "abs(1, 2)", "sqrt()", "a(1)", "1,2", "a = 1", "'a'", "1e999",
     "9" * 400, "(" * 5000 + "1" + ")" * 5000, "-" * 5000 + "1", "2^" * 5000 + "2", "1" + "+1" * 9000, "a\x00", "²"],
)  # fmt: skip
def test_what_is_no_formula_is_refused(text: str) -> None:
    names = REWARDS.keys() - {"min"}
    with pytest.raises(ConfigError) as caught:
        parse_formula(text, names, "grader.calculate_output")
    assert caught.value.where == "grader.calculate_output"


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="'c' is the name of no grader; the graders are a, b"):
        parse_formula("a + c", ["b", "a"], "f")


@pytest.mark.parametrize(
    "text",
    [
        "a / 0",
        "0 ^ -1",
        "sqrt(-1)",
        "log(0)",
        "(-8) ^ 0.5",
        "exp(1000)",
        "9^9^9^9",
        "1e308 * 10",
        "1e308*10 - 1e308*10",
    ],
)
def test_no_finite_value_is_an_error_and_no_huge_number(text: str) -> None:
    with pytest.raises(FormulaResultError):
        value(text)


def test_a_value_is_a_float() -> None:
    assert isinstance(value("floor(1.5)"), float)
    assert math.isfinite(value("10^300"))
