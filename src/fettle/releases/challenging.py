"""Challenges begun, ended, and decided: each outcome is written, looked at and decided on in one transaction.

Whoever takes an outcome holds the challenge meanwhile, so that of several API processes one decides, and the others find that it
is over. A decision is final. One that has lost is stopped in any case; one that has won is proposed, and where that was agreed
put in force by itself, once its weights were held against what was signed, which takes too long for a transaction.
Another release that comes into force ends the challenge of its name (`releases.changing`).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from sqlalchemy import Connection

from fettle.errors import ConfigError, IntegrityError, ModelError
from fettle.releases.arms import kept_arm
from fettle.releases.catalogue import require_same_weights
from fettle.releases.challenge import (
    Challenge,
    ChallengeDecision,
    ChallengeKind,
    Look,
    Outcome,
    PairedOutcome,
    look_at_canary,
    look_at_shadow,
)
from fettle.releases.changing import ReleaseRefusedError, end_held_challenge, end_running_challenge, put_in_force
from fettle.releases.outcome_graders import grading_of, needs_the_right_answer, score_of
from fettle.releases.records import Release
from fettle.releases.signing import verified
from fettle.releases.terms import JudgeEndpoint, Terms, look_as_json, look_of, terms_as_json, terms_of
from fettle.store.challenges import (
    ShadowAnswer,
    StoredChallenge,
    StoredLook,
    StoredOutcome,
    add_challenge,
    add_look,
    add_outcome,
    add_shadow_answer,
    ended_challenge,
    hold_challenge,
    last_looks,
    list_challenges,
    looks_of,
    outcomes_of,
    shadow_answer_of,
)
from fettle.store.database import Store, now
from fettle.store.ids import new_id
from fettle.store.keys import list_keys
from fettle.store.releases import (
    ReleaseEventKind,
    add_release_event,
    find_release,
    hold_releases,
    number_in_force,
)
from fettle.store.traffic import Feedback, KeptRequest, feedback_on, list_rules

_LONGEST_NAME = 255
_logger = logging.getLogger("fettle.releases")


@dataclass(frozen=True, slots=True, kw_only=True)
class BegunChallenge:
    """A challenge that has begun, and whose requests it can learn from."""

    challenge: StoredChallenge
    terms: Terms
    num_keys: int
    """In use in the project."""
    num_keeping: int
    """Of these, whose requests are kept: only theirs can have outcomes, and only theirs are answered by a shadow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChallengeState:
    """How a challenge stands, or ended."""

    challenge: StoredChallenge
    terms: Terms
    look: Look | None
    """The last one; None: there is no outcome yet."""
    num_outcomes: int


def begin_challenge(
    store: Store,
    project_id: str,
    challenge: Challenge,
    *,
    who: str,
    grader: str | None = None,
    judge: JudgeEndpoint | None = None,
    acts: bool = False,
) -> BegunChallenge:
    """Have a release challenge the one in force, from the next request on.

    Args:
        store: Where both are.
        project_id: Whose.
        challenge: What is agreed.
        who: Begins it.
        grader: Of corrected answers; None: that of the incumbent's study, or whether texts are the same.
        judge: Of a shadow: compares both answers.
        acts: Whether a challenger that wins comes into force by itself.

    Raises:
        NoSuchReleaseError: There is no such release.
        ReleaseRefusedError: Users would see it, or it would come into force, and gates do not let it through.
        ChangedReleaseError: Its content or its weights are not what was signed.
        ConfigError: No release is in force, the challenger is it, a challenge runs, or what is agreed does not go together.
    """
    name, number = challenge.name, challenge.challenger
    with store.reading() as connection:
        stored = find_release(connection, project_id, name, number)
        in_force = number_in_force(connection, project_id, name)
        if in_force is None or in_force == number:
            raise ConfigError(
                f"no release of {name!r} is in force" if in_force is None else f"{name}@{number} is in force itself",
                remedy=f"`fettle release promote {name}` puts one in force"
                if in_force is None
                else "name another one with --with",
            )
        incumbent = verified(find_release(connection, project_id, name, in_force))
        rules = list_rules(connection)
    challenger = verified(stored)
    require_same_weights(store, challenger)
    _require_let_through(challenger, challenge.kind, acts=acts)
    grading = grading_of(incumbent, challenge.kind, grader, judge)
    if acts and challenge.kind is ChallengeKind.SHADOW and needs_the_right_answer(grading):
        raise ConfigError(
            "a shadow that is graded by corrected answers is not promoted by itself: where users correct what is wrong "
            "more often than they confirm what is right, the incumbent looks worse than it is",
            where="--act",
            remedy="leave --act out and look at what was corrected, name a judge, or take --kind canary",
        )
    terms = Terms(challenge=challenge, grading=grading, acts=acts)
    begun = StoredChallenge(
        id=new_id("chal_"),
        project_id=project_id,
        name=name,
        challenger_number=number,
        incumbent_number=in_force,
        terms=terms_as_json(terms),
        created_at=now(),
        who=who,
    )
    with store.writing() as connection:
        hold_releases(connection, project_id)
        if number_in_force(connection, project_id, name) != in_force:
            raise ConfigError(f"another release of {name!r} came into force meanwhile", remedy="begin again")
        add_challenge(connection, begun)
        reason = f"{challenge.kind} against {name}@{in_force}, share {challenge.share:g}"
        add_release_event(connection, stored, ReleaseEventKind.CHALLENGED, who=who, reason=reason)
    known = [key for key in list_keys(store) if key.project_id == project_id and key.revoked_at is None]
    num_keeping = sum(key.id in rules for key in known)
    return BegunChallenge(challenge=begun, terms=terms, num_keys=len(known), num_keeping=num_keeping)


def end_challenge(store: Store, project_id: str, name: str, *, who: str, reason: str | None = None) -> None:
    """End the challenge of a name, undecided: from the next request on the release in force answers alone.

    Raises:
        ConfigError: None runs.
    """
    with store.writing() as connection:
        if not end_running_challenge(connection, project_id, name, who=who, reason=reason or "ended by hand"):
            raise ConfigError(
                f"no challenge of {name!r} runs", remedy=f"`fettle release challenges {name}` shows those that did"
            )


def challenge_states(store: Store, project_id: str, name: str) -> tuple[ChallengeState, ...]:
    """All challenges of a name as they stand, the first one first."""
    with store.snapshot() as connection:
        found = list_challenges(connection, project_id, name)
        looks = last_looks(connection, [one.id for one in found])
    return tuple(
        ChallengeState(
            challenge=one,
            terms=terms_of(one),
            look=look_of(looks[one.id].look) if one.id in looks else None,
            num_outcomes=looks[one.id].num_outcomes if one.id in looks else 0,
        )
        for one in found
    )


def challenge_looks(store: Store, challenge_id: str) -> tuple[tuple[StoredLook, Look], ...]:
    """All looks at a challenge, the first one first."""
    with store.reading() as connection:
        return tuple((one, look_of(one.look)) for one in looks_of(connection, challenge_id))


def take_feedback(connection: Connection, request: KeptRequest, given: Feedback) -> Look | None:
    """What feedback on a kept request says of the challenge that it was part of, in the transaction that writes the feedback.

    A canary's outcome is the score, else the grade of the answer by the corrected one. A shadow's pair are the grades of both
    answers by the corrected one; a score is of the one answer that the user saw, and says nothing of the other.

    Returns:
        The look at it; None: there is no challenge, it is over, or this says nothing that counts.
    """
    arm = kept_arm(request.release)
    held = None if arm is None else hold_challenge(connection, arm.challenge_id)
    if arm is None or held is None:
        return None
    terms = terms_of(held)
    if terms.challenge.kind is ChallengeKind.SHADOW:
        beside = shadow_answer_of(connection, request.id)
        outcome = None if beside is None else shadow_pair(terms, request, beside, given.corrected_answer)
    else:
        outcome = _canary_outcome(terms, request, given)
    return None if outcome is None else take_outcome(connection, held, outcome)


def take_shadow(
    connection: Connection, request: KeptRequest, beside: ShadowAnswer, preference: float | None
) -> Look | None:
    """Keep a shadow's answer, and take what it says: by the judge, by its form, or by what was corrected before.

    The challenge is held first: a row that names it would make two processes wait for each other.

    Args:
        connection: Within a transaction.
        request: That both have answered.
        beside: The challenger's answer.
        preference: The judge's: 1 for the challenger, 0 for the incumbent; None: there is none.

    Returns:
        The look at the challenge; None: it says nothing yet, or the challenge is over and nothing was kept.
    """
    held = hold_challenge(connection, beside.challenge_id)
    arm = kept_arm(request.release)
    if held is None or arm is None:
        return None
    add_shadow_answer(connection, beside)
    terms = terms_of(held)
    if terms.grading.judge is not None:
        outcome = None if preference is None else _pair(request.id, arm.assignment, preference, 1 - preference)
    else:
        said = [one.corrected_answer for one in feedback_on(connection, [request.id]).get(request.id, ())]
        corrected = next((one for one in said if one is not None), None)
        outcome = shadow_pair(terms, request, beside, corrected)
    return None if outcome is None else take_outcome(connection, held, outcome)


def shadow_pair(terms: Terms, request: KeptRequest, beside: ShadowAnswer, wanted: str | None) -> StoredOutcome | None:
    """The grades of both answers; None: one of them cannot be graded, or a judge does."""
    arm = kept_arm(request.release)
    if arm is None or request.answer is None or terms.grading.judge is not None:
        return None
    ours = score_of(terms.grading, beside.answer, wanted)
    theirs = score_of(terms.grading, request.answer, wanted)
    return None if ours is None or theirs is None else _pair(request.id, arm.assignment, ours, theirs)


def take_outcome(connection: Connection, held: StoredChallenge, outcome: StoredOutcome) -> Look | None:
    """Write an outcome down, look at all that there are, and end the challenge where they decide it.

    Args:
        connection: Within the transaction in which `held` is held.
        held: The challenge, which runs.
        outcome: Of a completion.

    Returns:
        The look; None: the completion has an outcome already, and the first one counts.
    """
    if not add_outcome(connection, held.id, outcome):
        return None
    terms, outcomes = terms_of(held), outcomes_of(connection, held.id)
    if terms.challenge.kind is ChallengeKind.SHADOW:
        pairs = [
            PairedOutcome(key=one.assignment, challenger=one.score, incumbent=one.incumbent_score)
            for one in outcomes
            if one.incumbent_score is not None
        ]
        look = look_at_shadow(terms.challenge, pairs)
    else:
        singles = [Outcome(key=one.assignment, is_challenger=one.is_challenger, score=one.score) for one in outcomes]
        look = look_at_canary(terms.challenge, singles)
    add_look(connection, held.id, num_outcomes=len(outcomes), look=look_as_json(look))
    if look.is_final:
        told = _told(terms.challenge, look)
        end_held_challenge(connection, held, who=_by(held), reason=told, decision=look.decision.value)
    return look


def put_winner_in_force(store: Store, request: KeptRequest, look: Look | None) -> None:
    """Promote a challenger that has just won, where that was agreed; to be called once the transaction of the outcome is over.

    One that is not what was signed any more is left where it is, which is written down in its history and the log. So is one whose
    process ends before this is done: that it has won stands in the challenge, and `fettle release promote` is left to people.

    Args:
        store: Where both are.
        request: Whose outcome was taken.
        look: What came of it.
    """
    arm = kept_arm(request.release)
    if look is None or look.decision is not ChallengeDecision.PROMOTE or arm is None:
        return
    with store.reading() as connection:
        won = ended_challenge(connection, arm.challenge_id)
        if won is None or not terms_of(won).acts:
            return
        stored = find_release(connection, won.project_id, won.name, won.challenger_number)
    kind, reason = ReleaseEventKind.PROMOTED, won.reason
    try:
        require_same_weights(store, verified(stored))
    except (IntegrityError, ModelError) as error:
        kind, reason = ReleaseEventKind.NOT_PROMOTED, error.problem
        _logger.error("%s@%d has won, and is not promoted: %s", won.name, won.challenger_number, error.describe())
    with store.writing() as connection:
        hold_releases(connection, won.project_id)
        if number_in_force(connection, won.project_id, won.name) != won.incumbent_number:
            return
        if kind.puts_in_force:
            put_in_force(connection, stored, kind, who=_by(won), reason=reason)
        else:
            add_release_event(connection, stored, kind, who=_by(won), reason=reason)


def _by(challenge: StoredChallenge) -> str:
    return f"the challenge that {challenge.who} began"[:_LONGEST_NAME]


def _told(challenge: Challenge, look: Look) -> str:
    """A decision in words."""
    counted = (
        f"{look.num_challenger} pairs"
        if challenge.kind is ChallengeKind.SHADOW
        else f"{look.num_challenger} outcomes of its own and {look.num_incumbent} of the incumbent"
    )
    said = {
        ChallengeDecision.PROMOTE: "better" if challenge.better_by >= 0 else "as good as was asked for",
        ChallengeDecision.STOP: "worse than is tolerated" + (", by outcomes of uneven sides" if look.is_uneven else ""),
        ChallengeDecision.GIVE_UP: "not decided",
        ChallengeDecision.GO_ON: "not decided yet",
    }
    found = look.difference
    return (
        f"{challenge.kind}: {said[look.decision]} after {counted}; "
        f"difference {found.estimate:+.3f} ({found.low:+.3f} to {found.high:+.3f})"
    )


def _require_let_through(challenger: Release, kind: ChallengeKind, *, acts: bool) -> None:
    if not challenger.evidence.lets_through and (kind is ChallengeKind.CANARY or acts):
        raise ReleaseRefusedError(
            challenger, remedy="mend what they say; a shadow without --act, which no user sees, is allowed"
        )


def _canary_outcome(terms: Terms, request: KeptRequest, given: Feedback) -> StoredOutcome | None:
    arm = kept_arm(request.release)
    if arm is None:
        return None
    score = given.score
    if score is None and given.corrected_answer is not None and request.answer is not None:
        score = score_of(terms.grading, request.answer, given.corrected_answer)
    if score is None:
        return None
    return StoredOutcome(
        completion_id=request.id, assignment=arm.assignment, is_challenger=arm.is_challenger, score=score
    )


def _pair(completion_id: str, assignment: str, challenger: float, incumbent: float) -> StoredOutcome:
    return StoredOutcome(
        completion_id=completion_id,
        assignment=assignment,
        is_challenger=True,
        score=challenger,
        incumbent_score=incumbent,
    )
