"""What exports, mail programs and spreadsheets leave in texts."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from fettle.examples.notes import Note, info, warning
from fettle.records import Example, Finding

HTML_TAG = re.compile(
    r"</?(?:p|br|div|span|a|b|i|u|em|strong|font|ul|ol|li|table|tbody|thead|tr|td|th|h[1-6]|html|body|head|style|script|img"
    r"|blockquote|pre|code|hr|center|title|meta)(?:\s+[\w:-]+\s*=[^<>]{0,500})?\s*/?>",
    re.IGNORECASE,
)
HTML_ENTITY = re.compile(
    r"&(?:amp|lt|gt|quot|apos|nbsp|[lr][sd]quo|hellip|[mn]dash|euro|pound|#\d{1,6}|#x[0-9a-f]{1,5});", re.I
)
CONTROL_CHARACTERS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f]")
_QUOTED = re.compile(
    r"^>.*|^[ \t]*on\b.{5,80}\bwrote:\s*$|^-{2,}\s*(?:original|forwarded) message|^from:.+\n(?:sent|to|date):",
    re.I | re.M,
)
_GREETING = re.compile(
    r"\A\s*(?:hi|hello|hey|dear|good (?:morning|afternoon|evening))\b[^\n.?!]{0,40}[,!.]?[ \t]*\n", re.I
)
_SIGNATURE = re.compile(
    r"\n[ \t]*(?:--[ \t]*\n|sent from my "
    r"|(?:many |kind |best |warm )?(?:thanks|thank you|regards|cheers|sincerely)\b[^\n]{0,30}(?:\n|\Z))",
    re.I,
)
LAYOUT = re.compile(r"\n(?: {2,}|\t)\S|\S\t+\S")
"""Code, nested lists or columns: white space that means something."""
_ODD_ENDS = re.compile(r"\A\s|\s\Z")
_ODD_SPACE = re.compile(r"\A\s|\s\Z|\t|[\u00a0\u2000-\u200b\u2060\ufeff]|(?<![.!?:;,\s])  +(?=\S)|\n[ \t]*\n[ \t]*\n")
_TYPOGRAPHIC = re.compile("[\u2018-\u201e\u2026\u2013\u2014]")
_SPOILED = re.compile("\ufffd|\\w\\?\\w\\?\\w|(?:Ã|Â)[\u0080-\u00bf]")
_FORMULA = re.compile(r"\A\s*'?(?:=\S|@\w+\(|[+-](?=[\w(]))")
_MIN_SHOUTED_LETTERS = 10
_MIN_SHOUTED_WORDS = 2


@dataclass(frozen=True, slots=True)
class _TextCheck:
    """A kind of finding in one text."""

    found_in: Callable[[str], bool]
    note: Note
    is_for_inputs: bool = True
    is_for_answers: bool = False


def _is_shouting(text: str) -> bool:
    letters = [char for char in text if char.isalpha()]
    cased = sum(char.isupper() or char.islower() for char in letters)
    upper = sum(char.isupper() for char in letters)
    return upper >= max(_MIN_SHOUTED_LETTERS, 0.9 * cased) and len(text.split()) >= _MIN_SHOUTED_WORDS


def _searches(*patterns: re.Pattern[str]) -> Callable[[str], bool]:
    return lambda text: any(pattern.search(text) for pattern in patterns)


def _has_odd_space(text: str) -> bool:
    return bool((_ODD_ENDS if LAYOUT.search(text) else _ODD_SPACE).search(text))


_TEXT_CHECKS: tuple[_TextCheck, ...] = (
    _TextCheck(_searches(HTML_TAG, HTML_ENTITY), warning("html", "holds HTML", "remove the markup; --fix does")),
    _TextCheck(
        _searches(HTML_TAG, HTML_ENTITY),
        info("html-in-answer", "holds HTML", "leave it if your house style has it, else remove it"),
        is_for_inputs=False,
        is_for_answers=True,
    ),
    _TextCheck(
        _searches(_QUOTED),
        warning("quoted-thread", "quotes an earlier message", "keep only what the customer wrote last"),
    ),
    _TextCheck(
        _searches(_GREETING, _SIGNATURE),
        info(
            "greeting-or-signature",
            "opens with a greeting or closes with a signature",
            "leave it if real messages have it",
        ),
    ),
    _TextCheck(
        _is_shouting, info("shouting", "is written in capitals", "leave it if real messages are written like this")
    ),
    _TextCheck(
        _has_odd_space,
        info("white-space", "has stray white space", "remove it; --fix does"),
        is_for_answers=False,
    ),
    _TextCheck(
        _searches(_TYPOGRAPHIC),
        info("typographic", "has typographic quotes, dashes or dots", "leave it if real messages have them"),
    ),
    _TextCheck(
        _searches(_SPOILED),
        warning("spoiled-characters", "has characters that an earlier conversion spoiled", "export it again as UTF-8"),
        is_for_answers=True,
    ),
    _TextCheck(
        _searches(CONTROL_CHARACTERS),
        warning("control-characters", "has invisible control characters", "remove them; --fix does"),
        is_for_answers=True,
    ),
    _TextCheck(
        _searches(_FORMULA),
        warning("formula-start", "starts like a spreadsheet formula", "check that a spreadsheet did not change it"),
    ),
)


def check_texts(examples: Sequence[Example]) -> Iterator[Finding]:
    """At most one finding of each kind per example, which says whether it is in the input or in the answer."""
    for example in examples:
        inputs = [message.content for message in example.prompt if message.role == "user"]
        for check in _TEXT_CHECKS:
            if check.is_for_inputs and any(map(check.found_in, inputs)):
                yield _placed(check.note, "the input", example)
            elif check.is_for_answers and check.found_in(example.answer):
                yield _placed(check.note, "the answer", example)


def _placed(note: Note, where: str, example: Example) -> Finding:
    return Note(
        code=note.code,
        severity=note.severity,
        action=note.action,
        message=f"{where} {note.message}",
        remedy=note.remedy,
    ).at(example.source)
