"""All row shapes that are recognised by their keys, in the order in which they are asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fettle.examples.row_format import RowFormat
from fettle.examples.row_formats.alpaca import AlpacaFormat
from fettle.examples.row_formats.chat import ChatFormat
from fettle.examples.row_formats.preference import PreferenceFormat
from fettle.examples.row_formats.prompt_completion import PromptCompletionFormat
from fettle.examples.row_formats.share_gpt import ShareGptFormat

ROW_FORMATS: tuple[RowFormat, ...] = (
    ChatFormat(),
    ShareGptFormat(),
    PreferenceFormat(),
    PromptCompletionFormat(),
    AlpacaFormat(),
)


def format_of(values: Mapping[str, Any]) -> RowFormat | None:
    """The format a row has; None when its keys say nothing."""
    return next((row_format for row_format in ROW_FORMATS if row_format.matches(values)), None)
