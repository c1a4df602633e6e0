"""Bytes to text in whatever encoding they are, with a note that says which was taken.

In a file that is mostly UTF-8 the odd wrong byte stays in the text as a surrogate escape (U+DC80 to U+DCFF), so that whoever reads
the row can name the row; see `has_wrong_bytes` and `mend_wrong_bytes`.
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass

from fettle.errors import DataError
from fettle.examples.notes import Note, info

_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_NAMES = {"cp1252": "Windows-1252", "utf-8-sig": "UTF-8 with a byte order mark", "utf-16": "UTF-16", "utf-32": "UTF-32"}
_LEGACY = [
    *("cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257", "koi8_r", "mac_roman", "latin_1"),
    *("cp932", "euc_jp", "gb18030", "big5", "cp949"),
]
_SAMPLE_BYTES = 1 << 16
_WRONG_BYTES = re.compile("[\udc80-\udcff]+")
_CONTROL = re.compile("[\x00-\x08\x0e-\x19\x7f]")
_MAX_CONTROL_SHARE = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodedText:
    """A file's text and what to tell the user about its encoding."""

    text: str
    encoding: str
    notes: tuple[Note, ...] = ()


def decode_text(data: bytes, *, name: str) -> DecodedText:
    """The text of a file.

    Raises:
        DataError: The bytes are no text.
    """
    encoding = _encoding_of(data)
    text = data.decode(encoding, errors="surrogateescape" if encoding.startswith("utf-8") else "replace")
    sample = text[:_SAMPLE_BYTES]
    if len(_CONTROL.findall(sample)) > _MAX_CONTROL_SHARE * len(sample):
        raise DataError(
            "expected text, and this is binary", where=name, remedy="give a .jsonl, .csv, .tsv, .xlsx or .parquet file"
        )
    if encoding == "utf-8":
        return DecodedText(text=text, encoding=encoding)
    note = info(
        "encoding",
        f"read as {_NAMES.get(encoding, encoding)}, not plain UTF-8",
        "save the file as UTF-8 if characters look wrong",
    )
    return DecodedText(text=text, encoding=encoding, notes=(note,))


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


def _encoding_of(data: bytes) -> str:
    for mark, encoding in _BYTE_ORDER_MARKS:
        if data.startswith(mark):
            return encoding
    sample = data[:_SAMPLE_BYTES]
    num_even_zeros, num_odd_zeros = sample[::2].count(0), sample[1::2].count(0)
    if max(num_even_zeros, num_odd_zeros) > 0.35 * len(sample) / 2 and min(num_even_zeros, num_odd_zeros) < 3:
        return "utf-16-be" if num_even_zeros > num_odd_zeros else "utf-16-le"
    text = data.decode("utf-8", "surrogateescape")
    num_wrong = sum(len(run) for run in _WRONG_BYTES.findall(text))
    if num_wrong == 0:
        return "utf-8"
    num_right = sum(char > "\x7f" for char in text) - num_wrong
    return "utf-8" if num_right >= num_wrong else _legacy_encoding(data)


def _legacy_encoding(data: bytes) -> str:
    """The likeliest single-byte or Asian encoding. Only lines with bytes above 127 tell anything, so only they are looked at."""
    import charset_normalizer

    telling = b"\n".join(line for line in data[: 16 * _SAMPLE_BYTES].split(b"\n") if not line.isascii())[:_SAMPLE_BYTES]
    matches = charset_normalizer.from_bytes(telling, cp_isolation=_LEGACY)
    chaos = {match.encoding: match.chaos for match in matches}
    best = matches.best()
    if best is None:
        return "cp1252"
    letters = [char for char in str(best) if char.isalpha()]
    is_mostly_latin = sum(char.isascii() for char in letters) > 0.6 * len(letters)
    # A few accents or a pound sign look equally likely in a dozen encodings; among those, Windows-1252 is what people have.
    if is_mostly_latin and chaos.get("cp1252", 1.0) <= best.chaos + 0.1:
        return "cp1252"
    return best.encoding
