"""Figures as people read them: points, percentages, intervals, p-values, durations. Text only, no markup.

Scores are fractions in [0, 1] inside Fettle; a reader sees percentages, and differences of percentages as points.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from fettle.records import Comparison, Decision, Interval, Metric
from fettle.report_records import GradingModel

NO_BREAK = "\u00a0"
MINUS = "\u2212"
MISSING = "\u2013"

PROPER_NAMES = {
    "f1": "F1",
    "json": "JSON",
    "chrf": "chrF",
    "rouge_l": "ROUGE-L",
    "rouge": "ROUGE",
    "lora": "LoRA",
    "json_fields": "JSON field F1",
    "json_valid": "JSON valid by its schema",
}

DECISION_PHRASES = {
    Decision.SHIP: "Ship the tuned model",
    Decision.STAY: "Stay with the baseline",
    Decision.CANNOT_TELL: "Cannot tell yet",
}


def amount(price: float) -> str:
    """Money, in a currency that is not ours to name: cents, and of less than ten cents two digits.

    >>> amount(12.345), amount(0.0213), amount(0.0)
    ('12.35', '0.021', '0.00')
    """
    return f"{price:.2f}" if price >= 0.1 or price == 0 else f"{price:.2g}"


def fixed(value: float, decimals: int) -> str:
    """A number with a true minus sign, thousands apart, and never "−0".

    >>> fixed(-1234.56, 1), fixed(-0.001, 1)
    ('−1,234.6', '0.0')
    """
    text = f"{abs(value):,.{decimals}f}"
    is_zero = not any(digit in text for digit in "123456789")
    return text if value >= 0 or is_zero else MINUS + text


def signed(value: float, decimals: int) -> str:
    """A number that always shows its sign, except zero.

    >>> signed(6.42, 1), signed(-0.5, 1), signed(0.0, 1)
    ('+6.4', '−0.5', '0.0')
    """
    text = fixed(value, decimals)
    return "+" + text if value > 0 and any(digit in text for digit in "123456789") else text


def significant(value: float, digits: int = 3) -> str:
    """A number with `digits` significant figures and no exponent.

    >>> significant(0.01234), significant(12.345), significant(12345.6)
    ('0.0123', '12.3', '12,346')
    """
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    return fixed(value, min(12, max(0, digits - 1 - math.floor(math.log10(abs(value))))))


def percent(fraction: float) -> str:
    """A fraction as a percentage.

    >>> percent(0.8421)
    '84.2\\xa0%'
    """
    return f"{fixed(100 * fraction, 1)}{NO_BREAK}%"


def level_percent(level: float) -> str:
    """A confidence level without needless decimals.

    >>> level_percent(0.95), level_percent(0.975), level_percent(1 - 0.05 / 3)
    ('95\\xa0%', '97.5\\xa0%', '98.3\\xa0%')
    """
    return f"{round(100 * level, 1):g}{NO_BREAK}%"


def points(fraction: float) -> str:
    """A difference of two fractions in points, with its sign.

    >>> points(-0.0214)
    '−2.1\\xa0points'
    """
    return f"{signed(100 * fraction, 1)}{NO_BREAK}points"


def points_range(interval: Interval) -> str:
    """The interval of a difference, in points, without the unit.

    >>> points_range(Interval(estimate=0.03, low=-0.01, high=0.07))
    '−1.0 to +7.0'
    """
    return f"{signed(100 * interval.low, 1)} to {signed(100 * interval.high, 1)}"


def percent_range(interval: Interval) -> str:
    """The interval of a fraction, in per cent.

    >>> percent_range(Interval(estimate=0.5, low=0.45, high=0.55))
    '45.0 to 55.0\\xa0%'
    """
    return f"{fixed(100 * interval.low, 1)} to {percent(interval.high)}"


def metric_value(value: float, is_percentage: bool) -> str:
    """A metric without its unit: the unit stands in the column's header.

    >>> metric_value(0.8421, True), metric_value(0.8421, False)
    ('84.2', '0.842')
    """
    return fixed(100 * value, 1) if is_percentage else significant(value)


def metric_range(metric: Metric) -> str:
    """A metric's interval without its unit."""
    low, high = metric.interval.low, metric.interval.high
    return f"{metric_value(low, metric.is_percentage)} to {metric_value(high, metric.is_percentage)}"


def p_value(value: float) -> str:
    """A p-value with two significant figures.

    >>> p_value(0.00004), p_value(0.0312), p_value(0.0047), p_value(0.42), p_value(1.0)
    ('<\\xa00.001', '0.031', '0.0047', '0.42', '1.0')
    """
    if value < 0.001:
        return f"<{NO_BREAK}0.001"
    return fixed(value, 1) if value >= 0.995 else significant(value, 2)


def count(number: float) -> str:
    """A count with its thousands apart.

    >>> count(12345)
    '12,345'
    """
    return f"{round(number):,}"


def counted(number: int, noun: str) -> str:
    """A count with its noun in the right number, kept on one line.

    >>> counted(1, "example"), counted(1200, "example")
    ('1\\xa0example', '1,200\\xa0examples')
    """
    return f"{count(number)}{NO_BREAK}{noun}{'' if number == 1 else 's'}"


def column(values: Iterable[float | None]) -> tuple[str, ...]:
    """A column of measured quantities with the same number of decimals, so that they line up; None stays open.

    >>> column([0.5, 12.25, None])
    ('0.5', '12.2', '–')
    """
    values = tuple(values)
    largest = max((abs(value) for value in values if value is not None), default=0.0)
    decimals = next((number for number, limit in ((3, 1), (2, 10), (1, 100)) if largest < limit), 0)
    return tuple(MISSING if value is None else fixed(value, decimals) for value in values)


def duration(seconds: float) -> str:
    """A time span in its two largest units.

    >>> duration(8.25), duration(252), duration(7384)
    ('8.2\\xa0s', '4\\xa0min 12\\xa0s', '2\\xa0h 3\\xa0min')
    """
    if seconds < 59.95:
        return f"{fixed(seconds, 1)}{NO_BREAK}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}{NO_BREAK}min {rest}{NO_BREAK}s"
    hours, minutes = divmod(minutes, 60)
    return f"{count(hours)}{NO_BREAK}h {minutes}{NO_BREAK}min"


def byte_size(num_bytes: float) -> str:
    """A size in decimal units.

    >>> byte_size(1_430_000_000), byte_size(512)
    ('1.4\\xa0GB', '512\\xa0bytes')
    """
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if num_bytes >= size:
            return f"{fixed(num_bytes / size, 1)}{NO_BREAK}{unit}"
    return f"{count(num_bytes)}{NO_BREAK}bytes"


def setting(value: object) -> str:
    """A setting's value, or a group of them, as a reader would write it.

    >>> setting(True), setting(0.0002), setting(None), setting("cosine")
    ('yes', '0.0002', '–', 'cosine')
    >>> setting({"rank": 16, "rslora": False})
    'rank 16, rslora no'
    """
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {setting(inner)}" for name, inner in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(setting, value))
    if value is None:
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def spoken(identifier: str) -> str:
    """A grader's or setting's identifier as words.

    >>> spoken("exact_label"), spoken("macro_f1"), spoken("json_fields")
    ('exact label', 'macro F1', 'JSON field F1')
    """
    words = [PROPER_NAMES.get(word, word) for word in identifier.split("_") if word]
    return PROPER_NAMES.get(identifier) or " ".join(words) or identifier


def heading(identifier: str) -> str:
    """An identifier as the first words of a heading; a proper name keeps its spelling.

    >>> heading("exact_label"), heading("chrf")
    ('Exact label', 'chrF')
    """
    text = spoken(identifier)
    return text if text in PROPER_NAMES.values() else text[:1].upper() + text[1:]


def grading_taken(model: GradingModel) -> str:
    """What a grading model took, as a sentence without its end."""
    took = f"{counted(model.prompt_tokens, 'prompt token')}, {counted(model.completion_tokens, 'token')} of replies"
    price = "" if model.price is None else f", at a cost of {amount(model.price)}"
    replies = f"{count(model.num_replies)}{NO_BREAK}repl{'y' if model.num_replies == 1 else 'ies'}"
    return f"{model.model} at {model.address} gave {replies}: {took}, {duration(model.seconds)} of waiting{price}"


def win_rate_against(comparisons: Iterable[Comparison], contender: str, opponent: str) -> Interval | None:
    """The win rate of `contender` over `opponent`, from a comparison made in either direction; None: they were not compared."""
    for comparison in comparisons:
        rate = comparison.win_rate
        if (comparison.challenger, comparison.baseline) == (contender, opponent):
            return rate
        if (comparison.challenger, comparison.baseline) == (opponent, contender):
            return Interval(
                estimate=1 - rate.estimate, low=1 - rate.high, high=1 - rate.low, level=rate.level, method=rate.method
            )
    return None
