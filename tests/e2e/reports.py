"""What tests read out of a report: all of it but what no two runs share, and its figures computed again from its rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_VARYING = {
    "economics", "seconds", "seconds_per_request", "latency_seconds_p50", "latency_seconds_p95",
    "peak_memory_bytes", "created_at", "command", "tuned_path", "machine", "planned",
}  # fmt: skip
"""Keys of what is measured in seconds or bytes, of times, of paths and of the machine."""


def comparable(value: Any) -> Any:
    """A report as JSON values, without what differs between two runs of the same study."""
    if isinstance(value, dict):
        return {name: comparable(inner) for name, inner in value.items() if name not in _VARYING}
    return [comparable(inner) for inner in value] if isinstance(value, list) else value


def load(folder: Path) -> Any:
    """The `report.json` of a study's folder."""
    return json.loads((folder / "report.json").read_text())


def require_consistent(report: Any) -> None:
    """The report's figures are those of its rows: mean scores, counts, differences, wins."""
    rows = report["rows"]
    assert len(rows) == report["num_examples"]["test"]
    for contender in report["contenders"]:
        scores = [row["scores"][contender["name"]] for row in rows]
        known = [score for score in scores if score is not None]
        metric = contender["metrics"][0]
        assert metric["grader"] == report["primary_metric"]
        assert (metric["num_scored"], metric["num_unscored"]) == (len(known), len(scores) - len(known))
        assert abs(metric["interval"]["estimate"] - sum(known) / len(known)) < 1e-9
        assert metric["interval"]["low"] <= metric["interval"]["estimate"] <= metric["interval"]["high"]
    for number, comparison in enumerate(report["comparisons"]):
        pairs = [(row["scores"][comparison["challenger"]], row["scores"][comparison["baseline"]]) for row in rows]
        differences = [mine - theirs for mine, theirs in pairs if mine is not None and theirs is not None]
        assert comparison["is_primary"] == (number == 0)
        assert comparison["num_pairs"] == len(differences)
        assert comparison["num_pairs_unscored"] == len(pairs) - len(differences)
        assert abs(comparison["difference"]["estimate"] - sum(differences) / len(differences)) < 1e-9
        if comparison["bootstrap"] is not None:
            assert abs(comparison["bootstrap"]["estimate"] - comparison["difference"]["estimate"]) < 1e-9
        counts = (comparison["num_wins"], comparison["num_ties"], comparison["num_losses"])
        assert counts == tuple(sum(test(d) for d in differences) for test in (_is_win, _is_tie, _is_loss))
        assert abs(comparison["win_rate"]["estimate"] - (counts[0] + counts[1] / 2) / len(differences)) < 1e-9


def _is_win(difference: float) -> bool:
    return difference > 1e-12


def _is_tie(difference: float) -> bool:
    return abs(difference) <= 1e-12


def _is_loss(difference: float) -> bool:
    return difference < -1e-12
