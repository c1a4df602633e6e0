"""The space that a template puts in front of every answer is told from the answer's own."""

from __future__ import annotations

import pytest

from chat_templates import TEMPLATES
from fettle.chat.answer_space import answer_space
from fettle.chat.renderer import ChatRenderer
from tiny_models import tiny_tokenizer


@pytest.mark.parametrize("name", TEMPLATES)
def test_only_mistrals_template_puts_one(name: str) -> None:
    assert answer_space(ChatRenderer(tiny_tokenizer(TEMPLATES[name]))) == (" " if name == "mistral" else "")
