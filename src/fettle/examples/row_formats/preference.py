"""Preference rows (a preferred and a rejected answer): recognised, so that they can be refused by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fettle.examples.notes import UnusableRowError
from fettle.examples.row_format import Conversation

_KEYS = frozenset({"preferred_output", "preferred_completion", "chosen"})


class PreferenceFormat:
    """Rows for preference training have two answers and no wanted one."""

    name = "preference"

    def matches(self, values: Mapping[str, Any]) -> bool:
        """Whether a preferred answer is there."""
        return not _KEYS.isdisjoint(values)

    def convert(self, values: Mapping[str, Any]) -> Conversation:  # noqa: ARG002 -- the interface's
        """Never returns.

        Raises:
            UnusableRowError: Always.
        """
        raise UnusableRowError(
            "preference-row",
            "a preference row (a preferred and a rejected answer), and an example has one wanted answer",
            'write {"messages": […, {"role": "assistant", "content": the preferred answer}]}',
        )
