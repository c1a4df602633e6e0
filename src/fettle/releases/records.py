"""What a release is: who answers, and the evidence that let it through. Frozen, plain data.

The evidence and the contender are signed by one hash of their canonical JSON (`Release.content_sha256`). It is computed again
whenever a release is read to be promoted or served, so that a row that was changed is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

from fettle.form_records import AnswerForm
from fettle.records import Interval, Message
from fettle.routing_records import RoutingRule


class ContenderKind(StrEnum):
    """The ways to answer that can be released."""

    PROMPT = "prompt"
    FEW_SHOT = "few_shot"
    RETRIEVAL = "retrieval"
    TUNED = "tuned"
    TUNED_RETRIEVAL = "tuned_retrieval"
    REMOTE = "remote"

    @property
    def is_tuned(self) -> bool:
        """Whether a model that was trained on the examples answers."""
        return self in (ContenderKind.TUNED, ContenderKind.TUNED_RETRIEVAL)

    @property
    def shows_passages(self) -> bool:
        """Whether an index is searched first."""
        return self in (ContenderKind.RETRIEVAL, ContenderKind.TUNED_RETRIEVAL)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleasedIndex:
    """The index that is searched first, with the search and the wording of the study."""

    index_id: str
    num_passages: int
    """Shown at most."""
    method: str
    """As of `fettle.retrieval.records.SearchMethod`."""
    reranker: str | None
    max_tokens: int | None
    """Of all passages together, in tokens of the embedder; None: no bound."""
    abstention: str | None
    """What the model is told to say where the passages do not answer; None: nothing."""
    asks_for_citations: bool
    system_begin: str | None = None
    """Where system messages ask, what they all begin with: the rest is searched for too (`fettle.retrieval.question.SystemPart`);
    None: what the user says alone is."""
    system_end: str = ""
    """What they all end with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleasedContender:
    """One way to answer requests."""

    kind: ContenderKind
    model: str
    """Its name in the catalogue: a base model's id or `ft:...`; of an endpoint, the endpoint's name for it."""
    instruction: str | None = None
    """Put before the request's messages; None: requests bring their own."""
    shots: tuple[Message, ...] = ()
    """Earlier turns, put between the instruction and the request's messages."""
    form: AnswerForm | None = None
    """None: answers are free."""
    index: ReleasedIndex | None = None
    url: str | None = None
    """Of an endpoint; None: this server answers."""
    precision: str | None = None
    """In which the study's answers were computed, and the server's are; None: not known, and the server chooses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Router:
    """A small contender that answers what it can be trusted with, and a large one for the rest."""

    small: ReleasedContender
    large: ReleasedContender
    rule: RoutingRule
    """Of the study: how confidence in the small one's answers is measured, and from where on they are given."""
    policy_when_large_fails: Literal["fail", "answer_small"]
    """What is done where the large one should answer and is down, slow or too dear today."""
    target: float | None = None
    """Mean primary score that the study promised, in [0, 1]; None: an older version, which did not keep it, made this."""
    level: float | None = None
    """Confidence of the promise, likewise."""
    budget_per_day: float | None = None
    """Of the large one, in the user's currency, for all releases of the name together; None: no bound."""
    large_timeout_seconds: float = 30.0
    """How long the large one is waited for."""
    large_cost_per_request: float = 0.0
    """What an answer of the large one counts as, in the user's currency."""


AGAINST_CURRENT = "win_rate_against_current"
"""The gate that compares with the release in force."""


class GateOutcome(StrEnum):
    """What came of a gate."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_MEASURED = "not measured"
    """It could not be: no pass, unless the gates file says so."""
    DOES_NOT_APPLY = "does not apply"
    """There is nothing to measure: JSON validity of labels, say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GateResult:
    """One gate, as it was when the release was made."""

    name: str
    outcome: GateOutcome
    lets_through: bool
    """Passed, does not apply, or not measured where the gates file takes that for a pass."""
    sentence: str
    """What was found, and what was wanted."""
    measured: Interval | None = None
    """None: it was not measured, or what was looked at is no figure."""
    bound: float | None = None
    """What the interval was held against, in its unit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What a release stands on."""

    study: str
    """Its name."""
    report_sha256: str
    """Of `report.json`."""
    study_created_at: str
    verdict: str
    primary_metric: str
    data_sha256: Mapping[str, str]
    split_sha256: Mapping[str, str]
    base_sha256: str
    """Of the base model's weights."""
    tuned_sha256: str | None
    """Of the adapter's files, or of all weights where all were trained; None: nothing was trained."""
    template_sha256: str
    settings: Mapping[str, Any]
    versions: Mapping[str, str]
    fettle_version: str
    gates_sha256: str
    """Of what the gates were set to."""
    gates: tuple[GateResult, ...]
    scores: Mapping[str, float | None]
    """Primary score of each test row (`row_key`), so that the next release can be paired with this one."""
    compared_with: int | None = None
    """Number of the release of its name that was in force when it was made, which `win_rate_against_current` is about; None: none
    was, or an older version made it."""
    index_sha256: str | None = None
    """Of what the index that it answers from held then, which may change since; None: it answers without, or an older version made
    it."""

    @property
    def refusals(self) -> tuple[GateResult, ...]:
        """Gates that do not let it through."""
        return tuple(gate for gate in self.gates if not gate.lets_through)

    @property
    def lets_through(self) -> bool:
        """No gate refuses it, and at least one has measured something: gates that are off or do not apply are no evidence."""
        return not self.refusals and any(gate.outcome is GateOutcome.PASSED for gate in self.gates)


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """One release of a name."""

    name: str
    number: int
    """From 1 for each name."""
    project_id: str
    created_at: int
    """Unix seconds."""
    contender: ReleasedContender | Router
    evidence: Evidence
    content_sha256: str

    def __str__(self) -> str:
        return f"{self.name}@{self.number}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Routed:
    """Who of a router has answered, and why."""

    answered_by: Literal["small", "large"]
    reason: str
    """A `fettle.routing.router.Reason`."""
    confidence: float | None
    """Of the small one's answer; None: it gave none, or it could not be told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseAnswered:
    """Which release has answered a request, and what of it."""

    name: str
    number: int
    contender: str
    """Its kind: `tuned`, `prompt`, ...; `router`."""
    routed: Routed | None = None
    """Who of a router has answered; None: it is none, or has not decided yet."""
