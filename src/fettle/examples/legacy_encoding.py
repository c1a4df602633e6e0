"""Which encoding from before Unicode a text is in: the one whose letters make words of one language.

A decoder for single bytes refuses next to nothing, so the result is a guess, and the user is shown what it makes of the text. What
is looked at: whether all accented letters belong to one language, whether capitals and punctuation stand where they can, and for
Cyrillic and Japanese how frequent the common letters are. Every other script is left to `charset_normalizer`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache

_SAMPLE_BYTES = 1 << 16
_LETTERS_SAMPLE_BYTES = 1 << 14
_MIN_PLAUSIBLE = 0.8
_MIN_HIRAGANA, _MIN_KANA = 0.1, 0.25
_MAX_ACCENTED_RUN = 3
_MIXED_FACTOR = 0.9

_WESTERN = {
    "German": "äöüß",
    "French": "àâæçéèêëîïôœùûü",
    "Spanish": "áéíñóúüªº",
    "Portuguese": "áâãàçéêíóôõúªº",
    "Italian": "àèéìòù",
    "Nordic": "åäöæøé",
    "Dutch": "áèéëïóöü",
}
_MIXED = "names from several"
_WESTERN[_MIXED] = "".join(_WESTERN.values())
_CENTRAL = {
    "Polish": "ąćęłńóśźż",
    "Czech and Slovak": "áäčďéěíĺľňóôŕřšťúůýž",
    "Hungarian": "áéíóöőúüű",
    "Romanian": "ăâîşţ",
    "Croatian and Slovene": "čćđšž",
}
_TURKISH = {"Turkish": "çğıöşüâîû"}
_BALTIC = {"Lithuanian": "ąčęėįšųūž", "Latvian": "āčēģīķļņšūž", "Estonian": "äõöüšž"}
_ICELANDIC = {"Icelandic": "áðéíóúýþæö"}
_CYRILLIC = "абвгдежзийклмнопрстуфхцчшщъыьэюяёієїґў"
_FREQUENT_CYRILLIC = frozenset("оеаинтсрвл")
_SHARE_OF_FREQUENT = 0.5
_PUNCTUATION = frozenset("“”„‘’‚–—…•€£§°©®™«»·¿¡\xa0¼½¾²³ºª×№´")
_OPENING = frozenset("„‚¿¡")
_WITHIN_WORDS = frozenset("’–—·\xa0")

_LATIN_ENCODINGS: tuple[tuple[str, dict[str, str]], ...] = (
    ("cp1252", _WESTERN),
    ("iso8859_15", _WESTERN),
    ("cp850", _WESTERN),
    ("mac_roman", _WESTERN),
    ("cp1250", _CENTRAL),
    ("iso8859_2", _CENTRAL),
    ("cp852", _CENTRAL),
    ("cp1254", _TURKISH),
    ("cp857", _TURKISH),
    ("cp1257", _BALTIC),
    ("cp1252", _ICELANDIC),
)
"""In the order of how many people have them: the first of equals is taken."""
_CYRILLIC_ENCODINGS = ("cp1251", "koi8_r", "cp866", "iso8859_5")
_JAPANESE_ENCODINGS = ("cp932", "euc_jp")
_OTHER_ENCODINGS = [
    *("cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257", "koi8_r", "mac_roman", "latin_1"),
    *("cp932", "euc_jp", "gb18030", "big5", "cp949"),
]
_HIGH_BYTE = re.compile(rb"[\x80-\xff]")
_BYTES_BEFORE = 100
_NOT_ASCII = re.compile(r"[^\x00-\x7f]")
_ACCENTED_RUN = re.compile(rf"(?:(?![\x00-\x7f])[^\W\d_]){{{_MAX_ACCENTED_RUN + 1},}}")


def legacy_encoding(data: bytes) -> str:
    """The likeliest encoding of bytes that are not UTF-8. Only lines with bytes above 127 are looked at.

    >>> legacy_encoding("Größere Päckchen für Köln".encode("cp850")), legacy_encoding("Größe".encode("cp1252"))
    ('cp850', 'cp1252')
    """
    telling = b"\n".join(_telling_lines(data))
    return (
        _japanese(telling)
        or _latin_or_cyrillic(telling[:_LETTERS_SAMPLE_BYTES])
        or _any_script(telling[:_SAMPLE_BYTES])
    )


def _telling_lines(data: bytes) -> Iterator[bytes]:
    """Lines with bytes above 127, from shortly before the first of these to their end, until they are enough for a sample."""
    num_bytes = end = 0
    while num_bytes < _SAMPLE_BYTES and (high := _HIGH_BYTE.search(data, end)):
        start = max(data.rfind(b"\n", end, high.start()) + 1, high.start() - _BYTES_BEFORE)
        end = data.find(b"\n", high.end())
        end = len(data) if end < 0 else end
        num_bytes += end - start
        yield data[start:end]


def _japanese(sample: bytes) -> str | None:
    """The encoding in which the text has the syllables that no Japanese text does without."""
    for encoding in _JAPANESE_ENCODINGS:
        try:
            found = _NOT_ASCII.findall(sample.decode(encoding))
        except UnicodeDecodeError:
            continue
        num_hiragana = sum("\u3041" <= char <= "\u309f" for char in found)
        num_kana = num_hiragana + sum("\u30a0" <= char <= "\u30ff" for char in found)
        if found and num_hiragana >= _MIN_HIRAGANA * len(found) and num_kana >= _MIN_KANA * len(found):
            return encoding
    return None


def _latin_or_cyrillic(sample: bytes) -> str | None:
    """The first of the most plausible encodings; None when none is plausible."""
    shares = [
        (_share(counts, letters) * (_MIXED_FACTOR if language == _MIXED else 1), encoding)
        for encoding, languages in _LATIN_ENCODINGS
        for counts in [_fitting_characters(sample, encoding, is_latin=True)]
        for language, letters in languages.items()
    ]
    shares += [(_cyrillic_share(sample, encoding), encoding) for encoding in _CYRILLIC_ENCODINGS]
    share, encoding = max(shares, key=lambda item: item[0])
    return encoding if share >= _MIN_PLAUSIBLE else None


@lru_cache(maxsize=32)
def _fitting_characters(sample: bytes, encoding: str, *, is_latin: bool) -> Counter[str]:
    """How often each character above 127 stands where it can, small letters for capitals; "" counts those that do not."""
    text = sample.decode(encoding, "replace")
    if is_latin:  # longer runs are no Latin script
        text = _ACCENTED_RUN.sub(lambda match: "\ufffd" * len(match.group()), text)
    counts: Counter[str] = Counter()
    for match in _NOT_ASCII.finditer(text):
        position = match.start()
        before, after = text[position - 1 : position], text[position + 1 : position + 2]
        fits = _fits(match.group(), before, after) and (is_latin or not before.isupper())
        counts[match.group().lower() if fits else ""] += 1
    return counts


def _fits(char: str, before: str, after: str) -> bool:
    """Whether a character can stand between two others: no capital after a small letter, no symbol inside a word."""
    if char.isupper():
        return not before.islower()
    if char in _OPENING:
        return not before.isalpha()
    return char.isalpha() or char in _WITHIN_WORDS or not (before.isalpha() and after.isalpha())


def _share(counts: Counter[str], letters: str) -> float:
    return sum(counts[char] for char in _PUNCTUATION.union(letters)) / max(1, counts.total())


def _cyrillic_share(sample: bytes, encoding: str) -> float:
    counts = _fitting_characters(sample, encoding, is_latin=False)
    num_letters = sum(counts[char] for char in _CYRILLIC)
    num_frequent = sum(counts[char] for char in _FREQUENT_CYRILLIC)
    if not num_letters:
        return 0.0
    return _share(counts, _CYRILLIC) * min(1.0, num_frequent / num_letters / _SHARE_OF_FREQUENT)


def _any_script(sample: bytes) -> str:
    import charset_normalizer

    matches = charset_normalizer.from_bytes(sample, cp_isolation=_OTHER_ENCODINGS)
    best = matches.best()
    if best is None:
        return "cp1252"
    letters = [char for char in str(best) if char.isalpha()]
    is_mostly_latin = sum(char.isascii() for char in letters) > 0.6 * len(letters)
    # Accents that make no language look equally likely in a dozen encodings; Windows-1252 is what people have.
    chaos = {match.encoding: match.chaos for match in matches}
    if is_mostly_latin and chaos.get("cp1252", 1.0) <= best.chaos + 0.1:
        return "cp1252"
    return best.encoding
