"""Which release answers to a name: promoted, rolled back, and what is known of how it came about."""

from __future__ import annotations

from sqlalchemy import Connection

from fettle.errors import ConfigError
from fettle.releases.catalogue import require_same_weights
from fettle.releases.challenge import ChallengeDecision
from fettle.releases.records import AGAINST_CURRENT, GateResult, Release
from fettle.releases.signing import verified
from fettle.store.challenges import (
    StoredChallenge,
    close_challenge,
    hold_challenge,
    list_challenges,
    open_challenge,
)
from fettle.store.database import Store
from fettle.store.releases import (
    NoSuchReleaseError,
    ReleaseEventKind,
    StoredRelease,
    add_release_event,
    find_release,
    hold_releases,
    list_releases,
    number_before,
    number_in_force,
    release_history,
)


class ReleaseRefusedError(ConfigError):
    """Gates do not let a release through."""

    def __init__(self, release: Release, *, remedy: str | None = None) -> None:
        self.refusals: tuple[GateResult, ...] = release.evidence.refusals
        told = "; ".join(f"{gate.name} ({gate.outcome.value}): {gate.sentence}" for gate in self.refusals)
        num_gates = len(release.evidence.gates)
        super().__init__(
            f"the release {release} is not let through by {len(self.refusals)} of {num_gates} gates: {told}"
            if told
            else f"none of the {num_gates} gates of the release {release} has measured anything",
            remedy=remedy
            or 'mend what they say; --force --reason "TEXT" promotes it against them, which is written down',
        )


class NotComparedError(ConfigError):
    """A release was never compared with the one in force, as its gates ask: another one came into force since it was made."""

    def __init__(self, release: Release, in_force: int) -> None:
        earlier = release.evidence.compared_with
        told = "when none was in force" if earlier is None else f"against {release.name}@{earlier}"
        super().__init__(
            f"the release {release} was held {told}, and not against {release.name}@{in_force}, which is in force now",
            remedy=f"`fettle release create {release.name}` with the same study holds it against that; `fettle release rollback` "
            'returns to one that was in force; --force --reason "TEXT" promotes it as it is, which is written down',
        )


def promote(
    store: Store, project_id: str, name: str, number: int | None, *, who: str, forced_for: str | None = None
) -> Release:
    """Let a release answer to its name from the next request on. A challenge of the name ends, undecided.

    Args:
        store: Where.
        project_id: Whose.
        name: Its name.
        number: Which; None: the newest.
        who: Promotes it.
        forced_for: Why it is promoted against its gates; None: it is not.

    Raises:
        NoSuchReleaseError: There is no such release.
        ReleaseRefusedError: Gates do not let it through, or none has measured anything, and nobody forces it.
        NotComparedError: They have not compared it with the release that is in force now, and nobody forces it.
        ChangedReleaseError: Its content or its weights are not what was signed; nothing forces that.
        ConfigError: It is in force already.
    """
    with store.reading() as connection:
        known = list_releases(connection, project_id, name)
        if not known:
            raise NoSuchReleaseError(f"there is no release of {name!r}", remedy="`fettle release create` makes one")
        stored = known[-1] if number is None else find_release(connection, project_id, name, number)
    release = verified(stored)
    require_same_weights(store, release)
    is_refused = not release.evidence.lets_through
    if is_refused and forced_for is None:
        raise ReleaseRefusedError(release)
    with store.writing() as connection:
        hold_releases(connection, project_id)
        in_force = number_in_force(connection, project_id, name)
        if in_force == release.number:
            raise ConfigError(f"the release {release} is in force already", remedy="nothing has to be done")
        is_new_to_it = in_force is not None and not _is_compared_with(connection, release, in_force)
        if in_force is not None and is_new_to_it and forced_for is None:
            raise NotComparedError(release, in_force)
        kind = ReleaseEventKind.FORCED if is_refused or is_new_to_it else ReleaseEventKind.PROMOTED
        put_in_force(connection, stored, kind, who=who, reason=forced_for)
    return release


def roll_back(
    store: Store, project_id: str, name: str, *, to: int | None, who: str, reason: str | None = None
) -> Release:
    """Let an earlier release answer to its name again, from the next request on. A challenge of the name ends, undecided.

    Args:
        store: Where.
        project_id: Whose.
        name: The name.
        to: Which release, one that was in force before; None: the one before the present one.
        who: Rolls back.
        reason: Why.

    Raises:
        ConfigError: No release was in force before, or not this one.
        ChangedReleaseError: Its content or its weights are not what was signed.
    """
    with store.reading() as connection:
        events = release_history(connection, project_id, name)
        number = number_before(events, name) if to is None else to
        was_in_force = {event.number for event in events if event.kind.puts_in_force}
        if number not in was_in_force or number == number_in_force(connection, project_id, name):
            raise ConfigError(
                f"{name}@{number} is in force now, or never was",
                remedy=f"`fettle release history {name}` says what was",
            )
        stored = find_release(connection, project_id, name, number)
    release = verified(stored)
    require_same_weights(store, release)
    with store.writing() as connection:
        hold_releases(connection, project_id)
        if number_in_force(connection, project_id, name) == release.number:
            raise ConfigError(f"the release {release} came into force meanwhile", remedy="nothing has to be done")
        put_in_force(connection, stored, ReleaseEventKind.ROLLED_BACK, who=who, reason=reason)
    return release


def _is_compared_with(connection: Connection, release: Release, in_force: int) -> bool:
    """Whether the gate that compares with the release in force, where it is on, has looked at this one; or users have."""
    if (
        all(gate.name != AGAINST_CURRENT for gate in release.evidence.gates)
        or release.evidence.compared_with == in_force
    ):
        return True
    challenges = list_challenges(connection, release.project_id, release.name)
    sides = (release.number, in_force, ChallengeDecision.PROMOTE)
    return any((one.challenger_number, one.incumbent_number, one.decision) == sides for one in challenges)


def put_in_force(
    connection: Connection, stored: StoredRelease, kind: ReleaseEventKind, *, who: str, reason: str | None
) -> None:
    """Let a release answer to its name from now on, and end the challenge of the name: it compares with what is in force no longer.

    Args:
        connection: Within the transaction in which its project's releases are held.
        stored: The release.
        kind: How it comes into force.
        who: Puts it there.
        reason: Why.
    """
    name = f"{stored.name}@{stored.number}"
    why = f"rolled back to {name}" if kind is ReleaseEventKind.ROLLED_BACK else f"{name} was promoted"
    end_running_challenge(connection, stored.project_id, stored.name, who=who, reason=why)
    add_release_event(connection, stored, kind, who=who, reason=reason)


def end_running_challenge(connection: Connection, project_id: str, name: str, *, who: str, reason: str) -> bool:
    """End the challenge of a name undecided; False: none runs."""
    running = open_challenge(connection, project_id, name)
    held = None if running is None else hold_challenge(connection, running.id)
    if held is None:
        return False
    end_held_challenge(connection, held, who=who, reason=reason)
    return True


def end_held_challenge(
    connection: Connection, held: StoredChallenge, *, who: str, reason: str, decision: str | None = None
) -> None:
    """Write down in the challenge and in the release's history that it is over; `decision` is None where it was not decided."""
    close_challenge(connection, held.id, who=who, reason=reason, decision=decision)
    stored = find_release(connection, held.project_id, held.name, held.challenger_number)
    add_release_event(connection, stored, ReleaseEventKind.CHALLENGE_ENDED, who=who, reason=reason)
