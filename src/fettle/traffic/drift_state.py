"""What a drift watch knows between two looks, as a file: numbers alone, none of the texts that they came from.

Requests may be deleted meanwhile; what they have shown stays. Without the file, each look would begin anew, and the promise about
false alarms would be of that look alone.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fettle.errors import ConfigError
from fettle.files import write_atomically
from fettle.statistics.exchangeability import Watch
from fettle.store.traffic import KeptRequest
from fettle.traffic.drift import DriftWatch, Request
from fettle.traffic.to_examples import beginnings, question_of, texts_of

_FORMAT, _VERSION = "fettle-drift", 2


@dataclass(slots=True)
class DriftProgress:
    """How far a watch has come.

    Args:
        reference_sha256: Of training and test texts and the embedder, as `reference_sha256` says it.
        false_alarm_rate: What was promised at the first look, and holds for all.
        last_number: Of the last request that was looked at.
        conversations: What was sent in them so far, by its name (`beginnings`).
    """

    reference_sha256: str
    false_alarm_rate: float
    last_number: int = 0
    conversations: set[str] = field(default_factory=set)

    def new_requests(self, kept: Sequence[KeptRequest]) -> list[Request]:
        """The first request of each conversation that is not known yet; all of these are known from now on.

        Who asks what somebody has asked before begins another conversation: the test split has what is often asked as often.

        Args:
            kept: In the order in which they came.
        """
        found: list[Request] = []
        for request, messages in texts_of(kept):
            if request.number <= self.last_number:
                continue
            *before, whole = beginnings(messages)
            is_first = self.conversations.isdisjoint(before)
            self.conversations.add(whole)
            if is_first:
                found.append(Request(id=request.id, text=question_of(messages), confidence=request.confidence))
        self.last_number = max([self.last_number, *(request.number for request in kept)])
        return found


def reference_sha256(
    train_texts: Sequence[str], test_texts: Sequence[str], embedder_revision: str, model: str | None
) -> str:
    """What a watch stands on: another training file, test split, embedder or model is another watch."""
    named = json.dumps([list(train_texts), list(test_texts), embedder_revision, model])
    return hashlib.sha256(named.encode()).hexdigest()


def write_progress(path: Path, progress: DriftProgress, watch: DriftWatch) -> None:
    """Write it, as a whole or not at all.

    Raises:
        DiskFullError: No space is left.
        ConfigError: The place cannot be written.
    """
    document = {
        "format": _FORMAT,
        "format_version": _VERSION,
        "reference_sha256": progress.reference_sha256,
        "false_alarm_rate": progress.false_alarm_rate,
        "last_number": progress.last_number,
        "conversations": sorted(progress.conversations),
        "num_requests": watch.num_requests,
        "inputs": _watch_row(watch.inputs),
        "confidence": None if watch.confidence is None else _watch_row(watch.confidence),
        "test_confidences": list(watch.test_confidences),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(document, allow_nan=False))


def read_progress(path: Path, watch: DriftWatch, wanted: DriftProgress) -> DriftProgress:
    """How far the watch had come, and the watch brought to that; `wanted` where there is no file yet.

    Args:
        path: As `write_progress` wrote it.
        watch: One that has seen nothing; it is changed.
        wanted: What it stands on now.

    Raises:
        ConfigError: The file is none of these, or of another reference or promise.
    """
    if not path.exists():
        return wanted
    try:
        found = json.loads(path.read_text())
        if (found["format"], found["format_version"]) != (_FORMAT, _VERSION):
            raise ValueError("another format")
        progress = DriftProgress(
            reference_sha256=found["reference_sha256"],
            false_alarm_rate=found["false_alarm_rate"],
            last_number=found["last_number"],
            conversations=set(found["conversations"]),
        )
        inputs, confidence = _watch_of(found["inputs"]), found["confidence"] and _watch_of(found["confidence"])
        test_confidences, num_requests = tuple(found["test_confidences"]), int(found["num_requests"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"this is no record of a drift watch ({error})", where=str(path), remedy="name another file with --state"
        ) from error
    begins_anew = "name another file with --state to begin a watch of its own"
    if progress.reference_sha256 != wanted.reference_sha256:
        text = "this watch was begun with other training or test examples, another embedder or model"
        raise ConfigError(text, where=str(path), remedy=begins_anew)
    if progress.false_alarm_rate != wanted.false_alarm_rate:
        text = (
            f"this watch promises false alarms of {progress.false_alarm_rate:g} at most, and that cannot be changed now"
        )
        raise ConfigError(
            text, where=str(path), remedy=f"give --false-alarms {progress.false_alarm_rate:g}, or {begins_anew}"
        )
    if watch.confidence is not None and confidence is None:
        text = "this watch was begun without the confidence of answers to the test split, and it cannot be watched from now on"
        raise ConfigError(text, where=str(path), remedy=f"leave out --test-key, or {begins_anew}")
    watch.inputs, watch.confidence, watch.num_requests = inputs, confidence, num_requests
    watch.test_confidences = test_confidences
    return progress


def _watch_row(watch: Watch) -> dict[str, Any]:
    return {
        "names": list(watch.names),
        "known": watch.known,
        "log_stakes": _finite(watch.log_stakes),
        "log_capital": _finite(watch.log_capital),
        "num_batches": watch.num_batches,
        "seed": watch.seed,
    }


def _watch_of(row: dict[str, Any]) -> Watch:
    return Watch(
        names=tuple(row["names"]),
        known=[list(map(float, values)) for values in row["known"]],
        log_stakes=_with_infinity(row["log_stakes"]),
        log_capital=_with_infinity(row["log_capital"]),
        num_batches=int(row["num_batches"]),
        seed=int(row["seed"]),
    )


def _finite(values: Any) -> list[list[float | None]]:
    """JSON has no infinity: null stands for the logarithm of nothing."""
    return [[one if math.isfinite(one) else None for one in row] for row in values.tolist()]


def _with_infinity(rows: list[list[float | None]]) -> Any:
    return np.array([[-math.inf if one is None else one for one in row] for row in rows], dtype=np.float64)
