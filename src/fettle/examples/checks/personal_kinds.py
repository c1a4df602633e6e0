"""How each kind of personal data looks: a pattern, and a check sum or a rule where the pattern alone would take too much."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PersonalKind:
    """One kind of personal data: how it looks, and what else must hold of a match."""

    code: str
    name: str
    pattern: re.Pattern[str]
    is_real: Callable[[str], bool] = lambda _: True


def is_card_number(text: str) -> bool:
    """Whether 13 to 19 digits pass the check sum of payment cards. Source: ISO/IEC 7812-1, annex B (Luhn).

    >>> is_card_number("4111 1111 1111 1111"), is_card_number("4111 1111 1111 1112")
    (True, False)
    """
    digits = [int(char) for char in text if char.isdigit()]
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[-2::-2]]
    return 13 <= len(digits) <= 19 and (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def is_iban(text: str) -> bool:
    """Whether an account number passes its check sum. Source: ISO 13616 (modulo 97 of ISO/IEC 7064).

    >>> is_iban("GB82 WEST 1234 5698 7654 32"), is_iban("GB83 WEST 1234 5698 7654 32")
    (True, False)
    """
    plain = "".join(text.split()).upper()
    if not 15 <= len(plain) <= 34 or not plain.isalnum() or not plain.isascii():
        return False
    return int("".join(str(int(char, 36)) for char in plain[4:] + plain[:4])) % 97 == 1


def _num_digits(text: str) -> int:
    return sum(char.isdigit() for char in text)


_STREET = (
    r"(?:street|st|road|rd|avenue|ave|lane|ln|drive|dr|way|court|ct|square|sq|boulevard|blvd|place|pl|terrace|close|crescent|"
    r"highway|hwy|parkway|colony|nagar|stra(?:ß|ss)e|str|weg|platz|allee|gasse)"
)
_STATE = (
    r"(?:al|ak|az|ar|ca|co|ct|de|fl|ga|hi|ia|id|il|in|ks|ky|la|ma|md|me|mi|mn|mo|ms|mt|nc|nd|ne|nh|nj|nm|nv|ny|oh|ok|or|pa|ri|"
    r"sc|sd|tn|tx|ut|va|vt|wa|wi|wv|wy|dc)"
)
_NUMBER_WORD = r"(?:no\b|num\b|number\b|nos\b|code\b|id\b|#|digits?\b|ending\b)"
_NAMED = (
    r"(?:ssn|social security|account|acct|a/c|ac|acc|policy|claims?|booking|confirmation|conformation|card|member(?:ship)?|"
    r"passport|licen[cs]e|customer|insurance|pin|nhs|tax)"
)
_NOT_PREFIXES = (
    r"(?:call|text|txt|send|sent|on|now|for|to|free|tel|no|at|and|is|or|in|of|by|the|top|just|only|paid|pay|am|pm|was|eve|over|year|"
    r"usd|eur|gbp|inr|aud|cad|chf|jpy|mon|tue|wed|thu|fri|sat|sun|jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)\b"
)
_NAME_INTRODUCTION = (
    r"(?:my (?:full |first |last )?name(?: is|'s|:)?|i am called|this is|name(?: is|:)|regards,?|sincerely,?|cheers,?)"
)
_CAPITAL_NAME = r"[A-Z][a-zà-öø-ÿ'’-]+(?:[ -][A-Z][a-zà-öø-ÿ'’.-]+){1,2}"
_MONTH = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*"
_NOT_NAMES = frozenset(
    {
        "a", "an", "the", "my", "not", "just", "about", "for", "from", "to", "in", "on", "and", "but", "what", "why", "how", "when",
        "is", "it", "so", "very", "urgent", "regarding", "concerning", "because", "unacceptable", "ridiculous", "wrong", "spelled",
        "spelt", "misspelled", "still", "also", "your", "our", "his", "her", "their", "with", "getting", "being", "was", "has",
        "really", "now", "card", "account", "there", "that",
    }
)  # fmt: skip


def _is_introduced_name(text: str) -> bool:
    """The words after an introduction are a name if none of the first two is an everyday word."""
    words = re.sub(rf"^(?:{_NAME_INTRODUCTION}|[-–—])\s*", "", text.strip(), flags=re.IGNORECASE).lower().split()
    return bool(words) and not _NOT_NAMES.intersection(words[:2]) and all(len(word) > 1 for word in words[:1])


KINDS: tuple[PersonalKind, ...] = (
    PersonalKind("personal-email", "an e-mail address", re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+", re.ASCII)),
    PersonalKind(
        "personal-iban", "a bank account number (IBAN)", re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]){11,30}\b"), is_iban
    ),
    PersonalKind("personal-card", "a payment card number", re.compile(r"\b\d(?:[ -]?\d){12,18}\b"), is_card_number),
    PersonalKind(
        "personal-birth-date",
        "a date of birth",
        re.compile(
            r"(?:\bborn(?: on)?|\bd\.?o\.?b\.?|\bbirth(?:day|date)?|\bdate of birth)\W{1,4}(?:is |was |on )?"
            rf"(?:\d{{1,4}}[./-]\d{{1,2}}[./-]\d{{1,4}}|\d{{1,2}}(?:st|nd|rd|th)? {_MONTH},? \d{{2,4}}"
            rf"|{_MONTH} \d{{1,2}},? \d{{4}})",
            re.IGNORECASE,
        ),
    ),
    PersonalKind(
        "personal-address",
        "a postal address",
        re.compile(
            rf"(?<![\d.,:£$€])\b(?:no\.? ?)?\d{{1,5}}[a-z]?,? "
            rf"(?:(?!(?:of|to|in|go|the|my|and|a|by|for|at|ne)\b)[\w'.]+ ){{1,3}}{_STREET}\b"
            rf"|\b[A-ZÄÖÜ][\w-]*(?:stra(?:ß|ss)e|str\.|weg|platz|allee|gasse) \d{{1,4}}\b"
            r"|\b(?:my|new|home|postal|mailing|billing|delivery|shipping) address is (?=.{0,60}\d).{4,80}"
            r"|\b[A-Z]{1,2}\d[A-Z\d]? \d[A-Z]{2}\b"  # a British postcode
            rf"|\b[a-z][a-z ]{{2,30}} {_STATE} \d{{5}}(?:-\d{{4}})?\b",  # town, state, ZIP
            re.IGNORECASE,
        ),
    ),
    PersonalKind(
        "personal-number",
        "an account, policy or identity number",
        re.compile(
            rf"\b{_NAMED}\b[\s.:#]*(?:{_NUMBER_WORD}[\s.:]*){{0,3}}(?:(?:is|are|was|of|its)\s+)*(?:(?:my|the)\s+)?"
            r"(?P<value>(?=[a-z ]{0,6}\d)(?:[a-z]{1,4} ?)?\d[\da-z]*(?:[ -]?\d[\da-z]*)*)"
            r"|\b\d{3}-\d{2}-\d{4}\b"  # a US social security number
            rf"|\b(?!{_NOT_PREFIXES})[a-z]{{2,4}} ?\d{{6,12}}\b|\b\d{{6,12}} (?!{_NOT_PREFIXES})[a-z]{{3}}\b"
            # a whole message that is nothing but a code or a number answers a question for one
            rf"|\A\W*(?!{_NOT_PREFIXES}|(?:19|20)\d\d\W*\Z)(?:[a-z]{{1,4}} ?)?"
            r"(?=(?:\W?[a-z]?\W?\d){3})[\da-z](?:[ -]?[\da-z]){3,20}\W*\Z",
            re.IGNORECASE,
        ),
        lambda text: _num_digits(text) >= 3,
    ),
    PersonalKind(
        "personal-phone",
        "a telephone number",
        re.compile(r"(?<![\w.,$€£-])(?:\+|00)?\(?\d(?:[ ./()-]{0,2}\d){6,14}(?![\w%]|[.,]\d)"),
        lambda text: (
            7 <= _num_digits(text) <= 15 and not re.fullmatch(r"\d{4}[./-]\d{1,2}[./-]\d{1,2}.*", text.strip())
        ),
    ),
    PersonalKind(
        "personal-number",
        "an account, policy or identity number",
        re.compile(r"(?<![\w.,$€£])\d(?:[ -]?\d){8,18}(?![\w%]|[.,]\d)"),
    ),
    PersonalKind(
        "personal-name",
        "a name",
        re.compile(
            rf"\b(?i:{_NAME_INTRODUCTION})\s+(?:{_CAPITAL_NAME}|[A-Z][a-z'’-]+)"
            r"|\b(?i:my (?:full |first |last )?name(?: is|'s|:)?|name is)\s+[^\W\d_]{2,}(?: [^\W\d_]{2,}){0,2}"
            rf"|(?:^|\s)[-–—]\s?{_CAPITAL_NAME}(?=\W*(?:$|\n|</))"
        ),
        _is_introduced_name,
    ),
)
