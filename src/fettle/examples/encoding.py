"""Bytes to text in whatever encoding they are, with a note that says which was taken.

In a file that is mostly UTF-8 the odd wrong byte stays in the text as a surrogate escape (U+DC80 to U+DCFF), so that whoever reads
the row can name the row; see `has_wrong_bytes` and `mend_wrong_bytes`.
"""

from __future__ import annotations

import codecs
import difflib
import re
from collections import Counter
from dataclasses import dataclass
from encodings import aliases
from itertools import chain, islice

from fettle.errors import ConfigError, DataError
from fettle.examples.legacy_encoding import legacy_encoding
from fettle.examples.notes import Note, info, warning

_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_NAMES = {
    "cp1252": "Windows-1252",
    "cp850": "MS-DOS code page 850",
    "mac_roman": "Mac Roman",
    "cp932": "Shift-JIS",
    "utf-8-sig": "UTF-8 with a byte order mark",
    "utf-16": "UTF-16",
    "utf-32": "UTF-32",
}
_OFTEN_MEANT = "cp1252 (Windows), cp850 (MS-DOS), mac_roman, iso8859-2 or shift_jis"
_SHIFTS_TO_JAPANESE = (b"\x1b$B", b"\x1b$@")
_SAMPLE_BYTES = 1 << 16
_WRONG_BYTES = re.compile("[\udc80-\udcff]+")
_CONTROL = re.compile("[\x00-\x08\x0e-\x19\x7f]")
_MAX_CONTROL_SHARE = 0.02
_NOT_ASCII = re.compile(r"[^\x00-\x7f]")
_WORD = re.compile(r"""[^\s,;|@"]+""")
_MAX_SAMPLE_WORDS, _MAX_WORD_CHARACTERS, _MAX_WORDS_READ = 5, 20, 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodedText:
    """A file's text and what to tell the user about its encoding."""

    text: str
    encoding: str
    notes: tuple[Note, ...] = ()


def require_encoding(name: str) -> str:
    """Python's name of the encoding that a user named.

    Raises:
        ConfigError: There is no such encoding of text; the message names the nearest.

    >>> require_encoding("Latin-1"), require_encoding("cp850")
    ('iso8859-1', 'cp850')
    """
    try:
        bytes(4).decode(name, "replace")  # refuses what is no encoding of text, such as base64
        return codecs.lookup(name).name
    except (LookupError, ValueError) as error:
        near = difflib.get_close_matches(name.lower(), {*aliases.aliases, *aliases.aliases.values()}, n=1)
        hint = f"did you mean {near[0]}? Others are" if near else "name one such as"
        raise ConfigError(
            f"there is no text encoding called {name!r}", where="--encoding", remedy=f"{hint} {_OFTEN_MEANT}"
        ) from error


def decode_text(data: bytes, *, name: str, encoding: str | None = None) -> DecodedText:
    """The text of a file.

    Args:
        data: The whole file.
        name: What errors call it.
        encoding: What the user says it is in, by Python's name; None: told from the bytes.

    Raises:
        DataError: The bytes are no text.
    """
    if encoding is not None:
        return _decode_as_told(data, encoding)
    found = _encoding_of(data)
    text = data.decode(found.name, errors="surrogateescape" if found.name.startswith("utf-8") else "replace")
    sample = text[:_SAMPLE_BYTES]
    if len(_CONTROL.findall(sample)) > _MAX_CONTROL_SHARE * len(sample):
        raise DataError(
            "expected text, and this is binary", where=name, remedy="give a .jsonl, .csv, .tsv, .xlsx or .parquet file"
        )
    if found.name == "utf-8":
        return DecodedText(text=text, encoding=found.name)
    title = _NAMES.get(found.name, found.name)
    if not found.is_guess:
        note = info("encoding", f"read as {title}, not plain UTF-8", "nothing to do")
    else:
        note = warning(
            "encoding",
            f"this is not UTF-8; read as {title}, which is a guess and gives: {_telling_words(text)}",
            f"if these words look wrong, name the right encoding with --encoding, such as {_OFTEN_MEANT}",
        )
    return DecodedText(text=text, encoding=found.name, notes=(note,))


def _decode_as_told(data: bytes, encoding: str) -> DecodedText:
    text = data.decode(encoding, errors="replace").removeprefix("\N{BYTE ORDER MARK}")
    num_wrong = text.count("\N{REPLACEMENT CHARACTER}")
    if not num_wrong:
        return DecodedText(text=text, encoding=encoding)
    note = warning(
        "encoding",
        f"{num_wrong} places are not {encoding}, which --encoding says it is, and became \N{REPLACEMENT CHARACTER}",
        "name another encoding, or leave the option out",
    )
    return DecodedText(text=text, encoding=encoding, notes=(note,))


def _telling_words(text: str) -> str:
    """The most frequent words that are not plain ASCII, as a sample of how the text was read."""
    counts: Counter[str] = Counter()
    lines = (line for line in text.split("\n") if not line.isascii())
    for match in islice(chain.from_iterable(map(_WORD.finditer, lines)), _MAX_WORDS_READ):
        if telling := _NOT_ASCII.search(match.group()):
            start = max(0, telling.start() - _MAX_WORD_CHARACTERS // 2)
            counts[match.group()[start : start + _MAX_WORD_CHARACTERS].strip(".:!?()'")] += 1
    return ", ".join(repr(word) for word, _ in counts.most_common(_MAX_SAMPLE_WORDS))


def has_wrong_bytes(text: str) -> bool:
    """Whether bytes that were not UTF-8 stand in the text as surrogate escapes."""
    return _WRONG_BYTES.search(text) is not None


def mend_wrong_bytes(text: str) -> str:
    """The text with its wrong bytes read as Windows-1252, which they nearly always are.

    >>> mend_wrong_bytes("\\udca320")
    '£20'
    """
    return _WRONG_BYTES.sub(
        lambda match: match.group().encode("utf-8", "surrogateescape").decode("cp1252", "replace"), text
    )


@dataclass(frozen=True, slots=True)
class _Encoding:
    name: str
    is_guess: bool = False


def _encoding_of(data: bytes) -> _Encoding:
    for mark, encoding in _BYTE_ORDER_MARKS:
        if data.startswith(mark):
            return _Encoding(encoding)
    sample = data[:_SAMPLE_BYTES]
    num_even_zeros, num_odd_zeros = sample[::2].count(0), sample[1::2].count(0)
    if max(num_even_zeros, num_odd_zeros) > 0.35 * len(sample) / 2 and min(num_even_zeros, num_odd_zeros) < 3:
        return _Encoding("utf-16-be" if num_even_zeros > num_odd_zeros else "utf-16-le")
    if data.isascii() and any(shift in data for shift in _SHIFTS_TO_JAPANESE):
        return _Encoding("iso2022_jp", is_guess=True)
    text = data.decode("utf-8", "surrogateescape")
    num_wrong = sum(len(run) for run in _WRONG_BYTES.findall(text))
    num_right = sum(char > "\x7f" for char in text) - num_wrong
    if num_wrong == 0 or num_right >= num_wrong:
        return _Encoding("utf-8")
    return _Encoding(legacy_encoding(data), is_guess=True)
