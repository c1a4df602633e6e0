"""Which conversation goes to which side of a challenge, and what of it is kept.

A request is assigned by whom it is from, where it says so (`safety_identifier`, or `user`, the older spelling), else by the
beginning of its conversation and the key that asks, so that all turns of a conversation stay on one side; a request without
anything that a user says is assigned for itself. `prompt_cache_key` is not looked at: programs give the same one to all requests
that begin alike, which would put all of them on one side.

What is kept is a hash of that, another one for each challenge.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fettle.records import Message
from fettle.releases.challenge import ChallengeKind, goes_to_challenger
from fettle.releases.records import ReleaseAnswered
from fettle.releases.terms import terms_of
from fettle.store.challenges import StoredChallenge
from fettle.store.ids import new_id
from fettle.traffic.to_examples import conversation_of

_HASH_LENGTH = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Assigned:
    """On which side of a challenge a request is."""

    challenge_id: str
    kind: ChallengeKind
    challenger: int
    """Its number."""
    is_drawn: bool
    """Whether it goes to the challenger: instead (canary), or too (shadow)."""
    assignment: str
    """A hash of what was assigned by."""

    @property
    def by_challenger(self) -> bool:
        """Whether the challenger gives the user's answer."""
        return self.is_drawn and self.kind is ChallengeKind.CANARY

    @property
    def beside(self) -> bool:
        """Whether the challenger answers too, unseen."""
        return self.is_drawn and self.kind is ChallengeKind.SHADOW


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptArm:
    """What a kept request says of its side of a challenge."""

    challenge_id: str
    assignment: str
    is_challenger: bool
    """Whether the challenger gave the answer that the user saw."""


def assignment_key(messages: Sequence[Message], *, key_id: str, end_user: str | None) -> str:
    """What a request is assigned by. It may be personal, and is not to be kept.

    Args:
        messages: The conversation.
        key_id: Of the key that asks.
        end_user: Whom the request says it is from; None: it does not.

    >>> said = Message(role="user", content="Where is it?")
    >>> later = (said, Message(role="assistant", content="Here."), said)
    >>> assignment_key([said], key_id="key_a", end_user=None) == assignment_key(later, key_id="key_a", end_user=None)
    True
    """
    if end_user:
        return f"user\0{key_id}\0{end_user}"
    if any(message.role == "user" for message in messages):
        return f"conversation\0{key_id}\0{conversation_of(messages)}"
    return f"request\0{new_id('')}"


def assigned(challenge: StoredChallenge, key: str) -> Assigned:
    """Where something goes in a challenge, always the same way."""
    terms = terms_of(challenge).challenge
    named = f"{challenge.id}\0{challenge.project_id}\0{key}"
    assignment = hashlib.sha256(named.encode()).hexdigest()[:_HASH_LENGTH]
    return Assigned(
        challenge_id=challenge.id,
        kind=terms.kind,
        challenger=challenge.challenger_number,
        is_drawn=goes_to_challenger(terms, assignment),
        assignment=assignment,
    )


def kept_release(release: ReleaseAnswered, side: Assigned | None) -> dict[str, Any]:
    """What is kept with a request of who answered it, and of its side where there is a challenge."""
    said: dict[str, Any] = {"name": release.name, "number": release.number, "contender": release.contender}
    if side is not None and (side.kind is ChallengeKind.CANARY or side.is_drawn):
        said["challenge"] = {
            "id": side.challenge_id,
            "assignment": side.assignment,
            "is_challenger": side.by_challenger,
        }
    return said


def kept_arm(release: Mapping[str, Any] | None) -> KeptArm | None:
    """The side that a kept request was on; None: there was no challenge."""
    said = None if release is None else release.get("challenge")
    if said is None:
        return None
    return KeptArm(challenge_id=said["id"], assignment=said["assignment"], is_challenger=said["is_challenger"])
