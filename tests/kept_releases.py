"""Releases in a store, without a study that they were made of."""

from __future__ import annotations

from dataclasses import replace

from fettle.records import Interval
from fettle.releases.catalogue import weights_sha256
from fettle.releases.records import Evidence, GateOutcome, GateResult, Release, ReleasedContender, Router
from fettle.releases.signing import contender_as_json, content_sha256, evidence_as_json, verified
from fettle.store.database import Store, now
from fettle.store.keys import ensure_project
from fettle.store.releases import StoredRelease, add_release, next_number

PASSED = GateResult(
    name="parity",
    outcome=GateOutcome.PASSED,
    lets_through=True,
    sentence="60 of 60 answers are the same",
    measured=Interval(estimate=1.0, low=0.94, high=1.0),
    bound=0.85,
)
FAILED = GateResult(
    name="personal_data",
    outcome=GateOutcome.FAILED,
    lets_through=False,
    sentence="2 of 60 answers hold personal data",
    measured=Interval(estimate=0.033, low=0.01, high=0.11),
    bound=0.0,
)


def evidence(*gates: GateResult, base_sha256: str = "b" * 64, tuned_sha256: str | None = None) -> Evidence:
    return Evidence(
        study="tickets",
        report_sha256="r" * 64,
        study_created_at="2026-11-22 18:04 UTC",
        verdict="ship",
        primary_metric="exact_label",
        data_sha256={"tickets.csv": "d" * 64},
        split_sha256={"test": "s" * 64},
        base_sha256=base_sha256,
        tuned_sha256=tuned_sha256,
        template_sha256="t" * 64,
        settings={"seed": 0},
        versions={"python": "3.11"},
        fettle_version="0.1.0",
        gates_sha256="g" * 64,
        gates=gates,
        scores={"a": 1.0, "b": None},
    )


def keep_release(
    store: Store,
    name: str,
    contender: ReleasedContender | Router,
    *gates: GateResult,
    project: str = "default",
    compared_with: int | None = None,
) -> Release:
    """A new release of a name, with what the gates are said to have found; the weights are signed as they are."""
    with store.writing() as connection:
        project_id = ensure_project(connection, project).id
    first = contender.small if isinstance(contender, Router) else contender
    tuned, base = (None, "b" * 64) if first.url else weights_sha256(store, project_id, first.model)
    found = evidence(*(gates or (PASSED,)), base_sha256=base, tuned_sha256=tuned)
    shown = evidence_as_json(replace(found, compared_with=compared_with))
    said = contender_as_json(contender)
    with store.writing() as connection:
        number = next_number(connection, project_id, name)
        stored = StoredRelease(
            project_id=project_id,
            name=name,
            number=number,
            created_at=now(),
            contender=said,
            evidence=shown,
            content_sha256=content_sha256(name, number, said, shown),
        )
        add_release(connection, stored, who="tester")
    return verified(stored)
