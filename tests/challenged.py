"""Two releases of a name, the first one in force, and requests that were answered while the other one challenges it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fettle.records import Message
from fettle.releases.arms import assignment_key, kept_release
from fettle.releases.catalogue import Answering, ReleaseCatalogue
from fettle.releases.challenge import Challenge, ChallengeKind
from fettle.releases.challenging import put_winner_in_force, take_feedback
from fettle.releases.changing import promote
from fettle.releases.records import AnswerForm, ContenderKind, GateResult, ReleasedContender
from fettle.store.database import Store, now
from fettle.store.ids import new_id
from fettle.store.keys import Key, create_key
from fettle.store.models import put_base_model
from fettle.store.traffic import Feedback, KeptRequest, TrafficRule, add_feedback, add_kept, set_rule
from kept_releases import PASSED, keep_release

NAME, BASE = "triage", "tiny-llama"
LABELS = ("billing", "lost parcel", "other")


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenged:
    """A name that can be challenged."""

    store: Store
    key: Key
    catalogue: ReleaseCatalogue = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "catalogue", ReleaseCatalogue(self.store))

    @property
    def project_id(self) -> str:
        return self.key.project_id

    def ask(self, text: str, *, end_user: str | None = None, name: str = NAME) -> Answering:
        key = assignment_key([Message(role="user", content=text)], key_id=self.key.id, end_user=end_user)
        return self.catalogue.find(name, self.project_id, key)

    def answered(self, text: str, answers: Mapping[int, str], *, end_user: str | None = None) -> KeptRequest:
        """A request that is kept; each release, by its number, would answer so."""
        answering = self.ask(text, end_user=end_user)
        assert answering.release is not None
        kept = KeptRequest(
            id=new_id("chatcmpl-"),
            project_id=self.project_id,
            key_id=self.key.id,
            model=NAME,
            release=kept_release(answering.release, answering.assigned),
            request={"messages": [{"role": "user", "content": text}]},
            answer={"role": "assistant", "content": answers[answering.release.number]},
            finish_reason="stop",
            confidence=None,
            num_prompt_tokens=3,
            num_completion_tokens=1,
            seconds=0.1,
            is_redacted=False,
            created_at=now(),
            expires_at=now() + 86_400,
        )
        with self.store.writing() as connection:
            add_kept(connection, [kept])
        return kept

    def say(self, request: KeptRequest, *, score: float | None = None, corrected: str | None = None) -> Any:
        """Feedback, as the server takes it; the look at the challenge."""
        given = Feedback(
            id=new_id("fdbk_"),
            project_id=self.project_id,
            completion_id=request.id,
            score=score,
            corrected_answer=corrected,
            comment=None,
            created_at=now(),
        )
        with self.store.writing() as connection:
            add_feedback(connection, given)
            look = take_feedback(connection, request, given)
        put_winner_in_force(self.store, request, look)
        return look


def challenged(store: Store, base: Path, *gates_of_challenger: GateResult) -> Challenged:
    """triage@1 is in force, triage@2 could challenge it; both answer with labels, by the model of a folder."""
    _, key = create_key(store, "test")
    set_rule(store, TrafficRule(key_id=key.id, num_days=30))
    with store.writing() as connection:
        put_base_model(connection, BASE, str(base))
    form = AnswerForm(labels=LABELS)
    for number, gates in enumerate(((PASSED,), gates_of_challenger), start=1):
        contender = ReleasedContender(
            kind=ContenderKind.PROMPT, model=BASE, instruction=f"You are clerk {number}.", form=form
        )
        keep_release(store, NAME, contender, *gates)
    promote(store, key.project_id, NAME, 1, who="tester")
    return Challenged(store=store, key=key)


def canary(share: float = 0.5, **more: Any) -> Challenge:
    """What is agreed for triage@2."""
    return Challenge(name=NAME, challenger=2, kind=ChallengeKind.CANARY, share=share, **more)


def shadow(share: float = 0.5, **more: Any) -> Challenge:
    """The same, unseen."""
    return Challenge(name=NAME, challenger=2, kind=ChallengeKind.SHADOW, share=share, **more)
