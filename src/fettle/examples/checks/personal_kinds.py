"""How each kind of personal data looks: a pattern, and a check sum or a rule where the pattern alone would take too much."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PersonalKind:
    """One kind of personal data: how it looks, and what else must hold of a match.

    A group called `value` in the pattern narrows the match to what is personal.
    """

    code: str
    name: str
    pattern: re.Pattern[str]
    is_real: Callable[[str], bool] = lambda _: True
    is_in_answers: bool = True
    """False: the same form means nothing in an answer."""
    num_meant: Callable[[str], int] = len
    """So many of the first characters of a match are meant: a pattern may take words behind with it."""


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


def _num_of_iban(text: str) -> int:
    """Characters of the account number that a text begins with: words in capitals may stand behind it.

    >>> _num_of_iban("GB82 WEST 1234 5698 7654 32 PLEASE")
    27
    """
    ends = (match.end() for match in re.finditer(r"\w\b", text))
    return max((end for end in ends if is_iban(text[:end])), default=0)


def _num_digits(text: str) -> int:
    return sum(char.isdigit() for char in text)


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_STREET = (
    r"(?:street|road|rd|avenue|ave|lane|ln|drive|dr|boulevard|blvd|terrace|crescent|highway|hwy|parkway|colony|nagar|"
    r"stra(?:ß|ss)e|allee|gasse)"
)
_STREET_OR_WORD = r"(?:St|Way|Court|Ct|Square|Sq|Place|Pl|Close)"
_STATE = (
    r"(?:al|ak|az|ar|ca|co|ct|de|fl|ga|ia|il|ks|ky|la|ma|md|mi|mn|mo|ms|mt|nc|nd|ne|nh|nj|nm|nv|ny|pa|ri|sc|sd|tn|tx|ut|va|vt|"
    r"wa|wi|wv|wy|dc)"
)
_NO_NAME = r"(?!(?:of|to|in|go|the|my|and|a|by|for|at|per|from|on|are|is)\b)"
_NUMBER_WORD = r"(?:no\b|num\b|number\b|nos\b|code\b|id\b|#|digits?\b|ending\b)"
_NAMED = (
    r"(?:ssn|social security|account|acct|a/c|ac|acc|policy|claims?|booking|confirmation|conformation|card|member(?:ship)?|"
    r"passport|licen[cs]e|customer|insurance|pin|nhs|tax)"
)
NOT_CODES = _words("""
    a about am and approx at before book booked booking by call come cost costs day days for free from hours if in
    is it just lunch make mins no nos now of off on only or our over paid party pay people pm reach sent send table
    tel text than the them time to top txt under until us was we year years you sat sun mon tue wed thu fri jan feb
    mar apr may jun jul aug sep oct nov dec usd eur gbp inr aud cad chf jpy hz kg km cm mm ml mg lb lbs ft st nd rd
    th
""")
"""Letters beside a number that make it an amount, a time or an everyday phrase."""
_NAME_INTRODUCTION = (
    r"(?:my (?:full |first |last )?name(?: is|'s|:)|i am called|this is|name(?: is|:)|regards,?|sincerely,?|cheers,?)"
)
_CAPITAL_NAME = r"[A-Z][a-zà-öø-ÿ'’-]+(?:[ -][A-Z][a-zà-öø-ÿ'’.-]+){1,2}"
_MONTH = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*"
_NOT_NAMES = _words("""
    a an the my not just about for from to in on and but what why how when is it so very urgent regarding
    concerning because after before changed unacceptable ridiculous wrong spelled spelt misspelled still also your
    our his her their with getting being was has really now card account there that
""")

_ADDRESS = re.compile(
    rf"(?<![\d.,:£$€])\b(?:no\.? ?)?\d{{1,5}}[a-z]?,? (?:{_NO_NAME}[\w'.]+ ){{1,3}}{_STREET}\b"
    rf"|(?<![\d.,:£$€])\b\d{{1,5}}[a-z]? (?-i:(?:[A-Z][\w'.]+ ){{1,3}}{_STREET_OR_WORD})\b"
    r"|\b[A-ZÄÖÜ][\w-]{0,40}(?:stra(?:ß|ss)e|str\.|weg|platz|allee|gasse) \d{1,4}\b"
    r"|\b(?:my|new|home|postal|mailing|billing|delivery|shipping) address is (?=.{0,60}\d).{4,80}"
    r"|\b[A-Z]{1,2}\d[A-Z\d]? \d[A-Z]{2}\b"  # a British postcode
    rf"|\b[a-z][a-z ]{{2,30}} {_STATE} \d{{5}}(?:-\d{{4}})?\b",  # town, state, ZIP
    re.IGNORECASE,
)
_NAMED_NUMBER = re.compile(
    rf"\b{_NAMED}\b[\s.:#]*(?:{_NUMBER_WORD}[\s.:]*){{0,3}}(?:(?:is|are|was|of|its)\s+)*(?:(?:my|the)\s+)?"
    r"(?P<value>(?!(?:for|at|on|in|of|to|by)\b)(?:[a-z]{1,4} ?)?\d[\da-z]*(?:[ -]?\d[\da-z]*)*)"
    r"|\b\d{3}-\d{2}-\d{4}\b"  # a US social security number
    r"|\b(?P<prefix>[a-z]{2,4}) ?\d{6,12}\b|\b\d{6,12} (?P<suffix>[a-z]{3})\b",
    re.IGNORECASE,
)
_BARE_CODE = re.compile(r"\A\W*[\da-z](?:[ -]?[\da-z]){3,30}\W*\Z", re.IGNORECASE)
_PHONE = re.compile(
    r"(?<![\w.,$€£+*/=-])(?:\+|00)?(?:\(\d{2,5}\) ?)?\d(?:[ .-]?\d){5,14}(?![\w%]|[.,+*/=-]\d)"
    r"|(?<![\w.,$€£+*/=-])0\d{1,5} ?/ ?\d(?:[ -]?\d){4,9}(?![\w%]|[.,+*/=-]\d)"  # 030/1234567
    r"|(?<![\w.,$€£+*/=-])(?:\+|00)\d{1,3} ?\(0\) ?\d{1,5}(?: ?/ ?|[ .-])?\d(?:[ .-]?\d){3,9}(?![\w%]|[.,+*/=-]\d)"  # +49 (0)30 1
)
_DATE_OR_SUM = re.compile(r"\d{1,4}[.-]\d{1,2}[.-]\d{1,4}|\d+[.-]\d{1,5}")
_LONG_NUMBER = re.compile(r"(?<![\w.,$€£+*/=-])\d(?:[ -]?\d){8,18}(?![\w%]|[.,+*/=-]\d)")
_NAME = re.compile(
    rf"\b(?i:{_NAME_INTRODUCTION})\s+(?:{_CAPITAL_NAME}|[A-Z][a-z'’-]+)"
    r"|\b(?i:my (?:full |first |last )?name(?: is|'s|:)?|name is)\s+[^\W\d_]{2,}(?: [^\W\d_]{2,}){0,2}"
    rf"|(?:^|\s)[-–—]\s?{_CAPITAL_NAME}(?=\W*(?:$|\n|</))"
)


def _is_number(text: str) -> bool:
    """At least three digits, and no ordinary word for the letters beside them."""
    words = set(re.findall(r"[a-z]+", text.lower()))
    return _num_digits(text) >= 3 and (not words & NOT_CODES or bool(re.search(rf"\b{_NAMED}\b", text, re.IGNORECASE)))


def _is_code(text: str) -> bool:
    """A whole message that is nothing but a code: few letters, three digits or more, no time, year or everyday word."""
    tokens = re.findall(r"[a-z]+|\d+", text.lower())
    letters = [token for token in tokens if token.isalpha()]
    is_year = re.fullmatch(r"\W*(?:19|20)\d\d\W*", text) is not None
    return (
        _num_digits(text) >= 3
        and sum(map(len, letters)) <= 6
        and not NOT_CODES.intersection(letters)
        and not is_year
        and len("".join(tokens)) >= 4
    )


def _is_phone(text: str) -> bool:
    """Seven to eleven digits, or more with a country code in front; neither a date nor two numbers side by side."""
    num_digits = _num_digits(text)
    is_marked = text.strip().startswith(("+", "00"))
    return 7 <= num_digits <= (15 if is_marked else 11) and not _DATE_OR_SUM.fullmatch(text.strip())


def _is_long_number(text: str) -> bool:
    """Not two numbers with a dash between them, which are a span or a subtraction."""
    return re.fullmatch(r"\d+-\d+", text) is None


def _is_introduced_name(text: str) -> bool:
    """The words after an introduction are a name if none of the first two is an everyday word."""
    words = (
        re.sub(rf"^(?:{_NAME_INTRODUCTION}|my name|[-–—])\s*", "", text.strip(), flags=re.IGNORECASE).lower().split()
    )
    return bool(words) and not _NOT_NAMES.intersection(words[:2]) and len(words[0]) > 1


KINDS: tuple[PersonalKind, ...] = (
    PersonalKind(
        "personal-email",
        "an e-mail address",
        re.compile(r"(?<![\wÀ-ɏ.+-])[\wÀ-ɏ.+-]{1,64}@[\wÀ-ɏ-]{1,63}(?:\.[\wÀ-ɏ-]{1,63}){1,8}", re.ASCII),
    ),
    PersonalKind(
        "personal-iban",
        "a bank account number (IBAN)",
        re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]){11,30}\b"),
        lambda text: _num_of_iban(text) > 0,
        num_meant=_num_of_iban,
    ),
    PersonalKind("personal-card", "a payment card number", re.compile(r"\b\d(?:[ -]?\d){12,18}\b"), is_card_number),
    PersonalKind(
        "personal-birth-date",
        "a date of birth",
        re.compile(
            r"(?:\bborn(?: on)?|\bgeb(?:oren)?(?: am)?|\bd\.?o\.?b\.?|\bbirth(?:day|date)?|\bdate of birth)\W{1,4}(?:is |was |on )?"
            rf"(?:\d{{1,4}}[./-]\d{{1,2}}[./-]\d{{1,4}}|\d{{1,2}}(?:st|nd|rd|th)? {_MONTH},? \d{{2,4}}"
            rf"|{_MONTH} \d{{1,2}},? \d{{4}})",
            re.IGNORECASE,
        ),
    ),
    PersonalKind("personal-address", "a postal address", _ADDRESS),
    PersonalKind("personal-number", "an account, policy or identity number", _NAMED_NUMBER, _is_number),
    PersonalKind("personal-number", "an account, policy or identity number", _BARE_CODE, _is_code, is_in_answers=False),
    PersonalKind("personal-phone", "a telephone number", _PHONE, _is_phone),
    PersonalKind("personal-number", "an account, policy or identity number", _LONG_NUMBER, _is_long_number),
    PersonalKind("personal-name", "a name", _NAME, _is_introduced_name),
)
"""In order of certainty: where two match the same characters, the first counts."""
