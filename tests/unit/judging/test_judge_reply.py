from __future__ import annotations

import pytest

from fettle.judging.reply import Pick, read_reply


@pytest.mark.parametrize(
    ("text", "pick"),
    [
        ('{"verdict": "first", "reason": "It is right."}', Pick.FIRST),
        (' {"reason": "Both.", "verdict": " TIE "}\n', Pick.TIE),
        ('```json\n{"verdict": "second", "reason": ""}\n```', Pick.SECOND),
        ('Here it is:\n```\n{"verdict": "second"}\n```\nHope it helps.', Pick.SECOND),
        ('{"verdict": "second", "reason": "It says \\"I', Pick.SECOND),
        ('{"verdict": "second", "reason": "It says "I am" and', Pick.SECOND),
        ('{"verdict": "tie"', Pick.TIE),
        ('```json\n{"verdict": "first", "rea', Pick.FIRST),
        ("first", Pick.FIRST),
        ("**Verdict: Second answer**\n\nIt keeps the house style.", Pick.SECOND),
        ("The final verdict is: tie.", Pick.TIE),
    ],
)
def test_a_verdict_is_read(text: str, pick: Pick) -> None:
    assert read_reply(text).pick is pick


@pytest.mark.parametrize(
    "text",
    [
        "",
        "First of all, both answers are good.",
        "First, let me look at the second answer.",
        "I prefer the first answer.",
        "first or second",
        "The second is not better than the first",
        '{"verdict": "neither", "reason": "first"}',
        '{"verdict": ["first"]}',
        '{"verdict": 1}',
        '{"verdict": "fir',
        '{"winner": "first"}',
        '{"verdict": "first", "reason": "no, "verdict": "second',
        '```\n{"verdict": "first"}\n```\n```\n{"verdict": "second"}\n```',
        "[" * 100_000,
    ],
)
def test_what_is_no_clear_verdict_is_none(text: str) -> None:
    assert read_reply(text).pick is None


def test_the_reason_comes_with_it() -> None:
    assert read_reply('{"verdict": "first", "reason": "It is right."}').reason == "It is right."
    assert read_reply("tie\nBoth are wrong.").reason == "Both are wrong."
