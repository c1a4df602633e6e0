"""What a study reads as it is meant, and the API refuses, because its rules say so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fettle.jobs.training_rows import BadTrainingFileError, FileRole, read_training_rows

CALL = {"id": "call_1", "type": "function", "function": {"name": "seats"}}


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ({"content": "b", "weight": 1.0}, "line 1: message 2: weight must be the integer 0 or 1"),
        ({"tool_calls": [CALL]}, "line 1: message 2: a tool call needs function.arguments, a JSON string"),
    ],
)
def test_a_row_that_is_nearly_right_is_refused(answer: dict[str, Any], message: str, tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", **answer}]}))
    with pytest.raises(BadTrainingFileError, match=message):
        read_training_rows(file, FileRole.TRAINING, name="file-1")
