"""The space that a chat template puts in front of an answer by itself, read off the template as `call_format` reads calls.

Mistral's writes a space before each answer, and a model tuned with it writes that space first. It is the template's, as the end of
turn is: who asked for an answer is not given it. All other space is the answer's own. Behind an answer there is none: a template
that puts anything before the end of turn is refused (`ChatTemplate.end_of_turn`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fettle.records import Message

if TYPE_CHECKING:
    from fettle.chat.renderer import ChatRenderer

_PROBE = "fettleprobe"


def answer_space(renderer: ChatRenderer) -> str:
    """The space with which the model of a renderer begins each answer because its template has it there; "" for most.

    Tokenizers that leave out the space before a first word when they decode give none, and then there is none to be left out.
    """
    written = renderer.answer_text([Message(role="user", content="a"), Message(role="assistant", content=_PROBE)])
    before, found, _ = renderer.decode(renderer.encode(written or "")).partition(_PROBE)
    return before if found and not before.strip() else ""
