"""One text to a cleaner one with the same meaning."""

from __future__ import annotations

import html
import re

from fettle.examples.checks.text import CONTROL_CHARACTERS, HTML_ENTITY, HTML_TAG, LAYOUT
from fettle.examples.mojibake import undo_double_encoding

_BREAKING_TAG = re.compile(r"<(?:br|/p|/div|/li|/tr|/h[1-6]|/blockquote)\b[^<>]{0,100}>", re.IGNORECASE)
_INVISIBLE = re.compile("[\u200b\u2060\ufeff]")
_OTHER_SPACE = re.compile("[\u00a0\u2000-\u200a\u202f\u3000]")
_ESCAPED_FORMULA = re.compile(r"\A\s*'(?=[=+@-])")
_CODE_FENCE = "```"


def mend_characters(text: str) -> str:
    """Without invisible control characters and double encoding.

    >>> mend_characters("Refund Â£20\\x07")
    'Refund £20'
    """
    return undo_double_encoding(CONTROL_CHARACTERS.sub("", text))


def mend_html(text: str) -> str:
    """Without tags, with entities as the characters they stand for.

    >>> mend_html("<p>I can&#39;t pay</p><br/>Help")
    "I can't pay\\n\\nHelp"
    """
    if not HTML_TAG.search(text) and not HTML_ENTITY.search(text):
        return text
    return html.unescape(HTML_TAG.sub("", _BREAKING_TAG.sub("\n", text)))


def mend_space(text: str) -> str:
    """Without space at the ends, runs of spaces and more than one empty line in a row. Code and columns are only stripped.

    >>> mend_space("  No  refund\\t \\n\\n\\n\\nyet "), mend_space("if x:\\n    return  1\\n")
    ('No refund\\n\\nyet', 'if x:\\n    return  1')
    """
    if _CODE_FENCE in text or LAYOUT.search(text):
        return text.strip()
    text = _INVISIBLE.sub("", _OTHER_SPACE.sub(" ", text)).replace("\r\n", "\n").replace("\r", "\n")
    text = re.sub(r"[ \t]+", " ", text)
    return re.sub(r"\n{3,}", "\n\n", re.sub(r" ?\n ?", "\n", text)).strip()


def mend_formula(text: str) -> str:
    """Without the apostrophe that a spreadsheet puts before a text that starts like a formula.

    >>> mend_formula("'+1 555 0100 called"), mend_formula("'tis")
    ('+1 555 0100 called', "'tis")
    """
    return _ESCAPED_FORMULA.sub("", text)
