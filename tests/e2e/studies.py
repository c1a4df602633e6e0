"""The study that most end-to-end tests are about, and what is expected of a refusal."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from command import Finished

WHOLE_STUDY = ("study", "labels.csv", "--model", "model", "--epochs", "4", "--batch-size", "4", "--precision", "exact")
"""In fp32: two studies must come to the same, and what a busy machine measures of bf16 is not the same twice."""
TASK_ALONE = ("--no-forgetting", "--replay", "0")
LABEL_STUDY = (*WHOLE_STUDY, *TASK_ALONE)
"""For tests of something else than what was forgotten."""


@dataclass(frozen=True, slots=True)
class Study:
    """A finished study."""

    finished: Finished
    folder: Path


def require_refused(finished: Finished, *texts: str) -> None:
    """Refused with exit code 2 and all of `texts`, without a traceback."""
    assert finished.code == 2, finished.everything
    assert "Traceback" not in finished.everything
    for text in texts:
        assert text in finished.everything, f"{text!r} is not in: {finished.error}"
