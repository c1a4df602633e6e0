"""Challenges that are begun, learn from feedback, decide, and end."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import text

from challenged import BASE, NAME, Challenged, canary, challenged, shadow
from databases import fresh_database
from fettle.errors import ConfigError
from fettle.records import Message
from fettle.releases.arms import assigned, assignment_key, kept_arm
from fettle.releases.challenge import Challenge, ChallengeDecision, Look
from fettle.releases.challenging import (
    begin_challenge,
    challenge_looks,
    challenge_states,
    end_challenge,
    put_winner_in_force,
    take_outcome,
    take_shadow,
)
from fettle.releases.changing import NotComparedError, ReleaseRefusedError, promote, roll_back
from fettle.releases.records import ContenderKind, GateOutcome, ReleasedContender
from fettle.releases.signing import ChangedReleaseError
from fettle.releases.terms import JudgeEndpoint, terms_of
from fettle.store.challenges import (
    ShadowAnswer,
    StoredOutcome,
    hold_challenge,
    open_challenge,
    outcomes_of,
    shadow_answer_of,
)
from fettle.store.database import Store
from fettle.store.keys import create_key
from fettle.store.models import put_base_model
from fettle.store.releases import NoSuchReleaseError, ReleaseEventKind, number_in_force, release_history
from fettle.store.traffic import KeptRequest, forget
from kept_releases import FAILED, PASSED, keep_release
from tiny_models import save_tiny_model

LONG = 200


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("models") / BASE, "llama")


@pytest.fixture
def place(store: Store, base: Path) -> Challenged:
    return challenged(store, base)


def begin(place: Challenged, challenge: Challenge, **more: object) -> str:
    return begin_challenge(place.store, place.project_id, challenge, who="ann", **more).challenge.id  # type: ignore[arg-type]


def in_force(place: Challenged) -> int | None:
    with place.store.reading() as connection:
        return number_in_force(connection, place.project_id, NAME)


def events(place: Challenged) -> list[tuple[int, str, str]]:
    with place.store.reading() as connection:
        found = release_history(connection, place.project_id, NAME)
    return [(one.number, one.kind.value, one.who) for one in found if one.kind is not ReleaseEventKind.CREATED]


def runs(place: Challenged) -> bool:
    with place.store.reading() as connection:
        return open_challenge(connection, place.project_id, NAME) is not None


def until_final(looks: Iterable[Look]) -> Look:
    return next(look for look in looks if look.is_final)


def answers(place: Challenged, right: int) -> Iterator[tuple[KeptRequest, bool]]:
    """Requests one after the other; one of the two releases is always right."""
    for number in itertools.count():
        kept = place.answered(f"question {number}", {right: "billing", 3 - right: "other"})
        arm = kept_arm(kept.release)
        assert arm is not None
        yield kept, arm.is_challenger == (right == 2)


# ------------------------------------------------------------------------------------------------------- assignment


def test_a_canary_gets_its_share_and_a_conversation_stays_where_it_is(place: Challenged) -> None:
    begin(place, canary(0.3))
    numbers = [place.ask(f"question {number}").release.number for number in range(LONG)]  # type: ignore[union-attr]
    assert 0.15 < np.mean([number == 2 for number in numbers]) < 0.45
    assert numbers == [place.ask(f"question {number}").release.number for number in range(LONG)]  # type: ignore[union-attr]
    assert {place.ask(f"question {number}", end_user="ada").release.number for number in range(40)} in ({1}, {2})  # type: ignore[union-attr]
    assert {place.ask(f"question {number}", name="triage@1").release.number for number in range(40)} == {1}  # type: ignore[union-attr]
    assert place.ask("question", name="triage@1").assigned is None


def test_a_shadow_is_never_seen(place: Challenged) -> None:
    begin(place, shadow(0.5))
    found = [place.ask(f"question {number}") for number in range(100)]
    assert {one.release.number for one in found if one.release} == {1}
    assert 20 < sum(one.assigned is not None and one.assigned.beside for one in found) < 80


def test_turns_of_a_conversation_users_and_nameless_requests_are_told_apart() -> None:
    first = Message(role="user", content="Where is it?")
    later = (Message(role="system", content="Be brief."), first, Message(role="assistant", content="Here."), first)
    key = assignment_key(later[:2], key_id="key_a", end_user=None)
    assert key == assignment_key(later, key_id="key_a", end_user=None)
    assert key != assignment_key(later, key_id="key_b", end_user=None)
    assert assignment_key(later, key_id="key_a", end_user="u") == assignment_key([first], key_id="key_a", end_user="u")
    nothing = [Message(role="system", content="Say something.")]
    assert assignment_key(nothing, key_id="a", end_user=None) != assignment_key(nothing, key_id="a", end_user=None)


def test_what_is_kept_of_a_request_names_its_side_and_no_user(place: Challenged) -> None:
    challenge_id = begin(place, canary())
    kept = place.answered("Where is it?", {1: "other", 2: "other"}, end_user="grace@example.com")
    assert kept.release is not None
    assert (kept.release["name"], kept.release["challenge"]["id"]) == (NAME, challenge_id)
    assert kept.release["number"] == 1 + kept.release["challenge"]["is_challenger"]
    assert "grace" not in str(kept.release)
    with place.store.reading() as connection:
        running = open_challenge(connection, place.project_id, NAME)
    assert running is not None
    key = assignment_key([], key_id=place.key.id, end_user="grace@example.com")
    assert assigned(running, key).assignment == kept.release["challenge"]["assignment"]
    assert assigned(replace(running, id="chal_other"), key).assignment != kept.release["challenge"]["assignment"]


def test_a_challenger_that_cannot_be_asked_is_left_out(place: Challenged) -> None:
    begin(place, canary(0.99))
    with place.store.writing() as connection:
        connection.execute(text("UPDATE releases SET evidence = '{}' WHERE release_number = 2"))
    found = [place.ask(f"question {number}") for number in range(10)]
    assert {one.release.number for one in found if one.release} == {1}
    assert sum(one.assigned is None for one in found) >= 5


# --------------------------------------------------------------------------------------------------------- decisions


@pytest.mark.parametrize("acts", [True, False])
def test_a_challenger_that_is_right_where_the_incumbent_is_wrong_wins(place: Challenged, acts: bool) -> None:
    begin(place, canary(), acts=acts)
    requests = answers(place, right=2)
    look = until_final(place.say(kept, score=float(is_right)) for kept, is_right in requests)
    assert look.decision is ChallengeDecision.PROMOTE
    assert not runs(place)
    assert in_force(place) == (2 if acts else 1)
    assert place.ask("anything").assigned is None
    [state] = challenge_states(place.store, place.project_id, NAME)
    assert (state.challenge.decision, state.look) == ("promote", look)
    assert state.challenge.reason is not None
    assert "better after" in state.challenge.reason
    done_by = "the challenge that ann began"
    assert events(place)[1:] == [
        (2, "challenged", "ann"),
        (2, "challenge ended", done_by),
        *([(2, "promoted", done_by)] if acts else []),
    ]
    if acts:
        roll_back(place.store, place.project_id, NAME, to=None, who="ann")
        assert in_force(place) == 1


def test_winning_against_the_release_in_force_is_being_compared_with_it(store: Store, base: Path) -> None:
    alone = replace(PASSED, name="win_rate_against_current", outcome=GateOutcome.DOES_NOT_APPLY)
    place = challenged(store, base, PASSED, alone)
    with pytest.raises(NotComparedError):
        promote(store, place.project_id, NAME, 2, who="ann")
    begin(place, canary())
    until_final(place.say(kept, score=float(is_right)) for kept, is_right in answers(place, right=2))
    promote(store, place.project_id, NAME, 2, who="ann")
    assert events(place)[-1] == (2, "promoted", "ann")


def test_of_releases_that_were_compared_with_the_same_one_only_the_first_is_promoted(place: Challenged) -> None:
    better = replace(PASSED, name="win_rate_against_current")
    contender = ReleasedContender(kind=ContenderKind.PROMPT, model=BASE)
    numbers = [keep_release(place.store, NAME, contender, better, compared_with=1).number for _ in range(6)]

    def promoted(number: int) -> bool:
        try:
            promote(place.store, place.project_id, NAME, number, who="ann")
        except NotComparedError:
            return False
        return True

    with ThreadPoolExecutor(len(numbers)) as threads:
        assert sum(threads.map(promoted, numbers)) == 1


def test_a_winner_that_comes_into_force_ends_what_began_meanwhile_against_the_one_before(
    place: Challenged, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(place, canary(), acts=True)
    keep_release(place.store, NAME, ReleasedContender(kind=ContenderKind.PROMPT, model=BASE), PASSED)

    def put_later(store: Store, request: KeptRequest, look: Look | None) -> None:
        if look is not None and look.is_final:  # its weights are hashed, which takes its time
            begin(place, replace(canary(), challenger=3))
        put_winner_in_force(store, request, look)

    monkeypatch.setattr("challenged.put_winner_in_force", put_later)
    until_final(place.say(kept, score=float(is_right)) for kept, is_right in answers(place, right=2))
    assert (in_force(place), runs(place)) == (2, False)
    assert [one[:2] for one in events(place)[-2:]] == [(3, "challenge ended"), (2, "promoted")]


def test_weights_that_cannot_be_read_are_refused_by_name_and_leave_users_to_the_release_in_force(
    store: Store, base: Path, tmp_path: Path
) -> None:
    """As in a cache of links whose files were deleted."""
    mine = Path(shutil.copytree(base, tmp_path / "models" / "other-llama"))
    place = challenged(store, base)
    with store.writing() as connection:
        put_base_model(connection, "other-llama", str(mine))
    keep_release(store, NAME, ReleasedContender(kind=ContenderKind.PROMPT, model="other-llama"), PASSED)
    begin(place, replace(canary(0.9), challenger=3))
    [weights] = mine.glob("*.safetensors")
    weights.unlink()
    weights.symlink_to(tmp_path / "gone")
    found = [place.ask(f"question {number}") for number in range(20)]
    assert {one.release.number for one in found if one.release} == {1}
    for ask in (
        partial(place.ask, "question", name=f"{NAME}@3"),
        partial(promote, store, place.project_id, NAME, 3, who="ann"),
    ):
        with pytest.raises(ChangedReleaseError, match="cannot be read"):
            ask()


@pytest.mark.parametrize("what", ["content", "weights"])
def test_a_winner_that_is_not_what_was_signed_is_not_put_in_force(
    store: Store, base: Path, tmp_path: Path, what: str
) -> None:
    mine = Path(shutil.copytree(base, tmp_path / "models" / BASE))
    place = challenged(store, mine)
    begin(place, canary(), acts=True)
    won = list(itertools.islice(answers(place, right=2), 60))
    if what == "weights":
        save_tiny_model(mine, "llama", seed=7)
    else:
        with store.writing() as connection:
            connection.execute(text("UPDATE releases SET evidence = '{}' WHERE release_number = 2"))
    look = until_final(place.say(kept, score=float(is_right)) for kept, is_right in won)
    assert look.decision is ChallengeDecision.PROMOTE
    assert (runs(place), in_force(place)) == (False, 1)
    [*_, (number, kind, who)] = events(place)
    assert (number, kind, who) == (2, "not promoted", "the challenge that ann began")
    with store.reading() as connection:
        assert f"the release {NAME}@2" in str(release_history(connection, place.project_id, NAME)[-1].reason)


def test_a_challenger_that_loses_is_stopped_though_nobody_said_that_it_may_act(place: Challenged) -> None:
    begin(place, canary())
    look = until_final(place.say(kept, corrected="billing") for kept, _ in answers(place, right=1))
    assert look.difference.high < 0
    assert look.decision is ChallengeDecision.STOP
    assert (runs(place), in_force(place)) == (False, 1)
    late = place.say(place.answered("one more", {1: "other", 2: "other"}), score=1.0)
    assert late is None


def test_feedback_counts_once_and_other_requests_not_at_all(place: Challenged) -> None:
    before = place.answered("before", {1: "other", 2: "other"})
    challenge_id = begin(place, canary())
    assert place.say(before, score=1.0) is None
    kept = place.answered("question", {1: "other", 2: "other"})
    assert place.say(kept) is None
    assert place.say(kept, score=1.0) is not None
    assert place.say(kept, score=0.0) is None
    again = place.answered("question", {1: "other", 2: "other"})
    assert place.say(again, score=0.0).num_repeats == 1
    with place.store.reading() as connection:
        assert [one.score for one in outcomes_of(connection, challenge_id)] == [1.0, 0.0]
    assert [one.num_outcomes for one, _ in challenge_looks(place.store, challenge_id)] == [1, 2]


def test_a_challenge_that_is_undecided_in_time_is_given_up(place: Challenged) -> None:
    begin(place, canary(max_outcomes=3), acts=True)
    kept = [place.answered(f"question {number}", {1: "other", 2: "other"}) for number in range(3)]
    *_, look = [place.say(one, score=1.0) for one in kept]
    assert look.decision is ChallengeDecision.GIVE_UP
    assert (runs(place), in_force(place)) == (False, 1)


def test_outcomes_stay_when_the_requests_are_deleted(place: Challenged) -> None:
    challenge_id = begin(place, canary())
    place.say(place.answered("question", {1: "other", 2: "other"}), score=1.0)
    assert forget(place.store, place.project_id) == 1
    with place.store.reading() as connection:
        assert len(outcomes_of(connection, challenge_id)) == 1


# ----------------------------------------------------------------------------------------------------------- shadows


def beside(
    place: Challenged, challenge_id: str, kept: KeptRequest, content: str, preference: float | None = None
) -> Any:
    """The shadow's answer arrives."""
    answer = ShadowAnswer(
        completion_id=kept.id,
        challenge_id=challenge_id,
        answer={"role": "assistant", "content": content},
        finish_reason="stop",
        seconds=0.1,
    )
    with place.store.writing() as connection:
        look = take_shadow(connection, kept, answer, preference)
    put_winner_in_force(place.store, kept, look)
    return look


def drawn(place: Challenged, content: str = "other") -> KeptRequest:
    """A request that the shadow answers too."""
    for number in itertools.count():
        if (side := place.ask(f"question {number} {content}").assigned) is not None and side.beside:
            return place.answered(f"question {number} {content}", {1: content})
    raise AssertionError


def test_pairs_are_of_corrections_before_and_after_the_shadows_answer(place: Challenged) -> None:
    challenge_id = begin(place, shadow())
    early = drawn(place, "other")
    assert place.say(early, corrected="billing") is None
    first = beside(place, challenge_id, early, "Billing")
    assert (first.num_challenger, first.difference.estimate) == (1, 1.0)
    late = drawn(place, "lost parcel")
    assert beside(place, challenge_id, late, "billing") is None
    assert place.say(late, score=1.0) is None, "a score is of the one answer that the user saw"
    second = place.say(late, corrected="lost parcel")
    assert (second.num_challenger, second.difference.estimate) == (2, 0.0)


def test_a_judge_pairs_every_answer_and_may_promote(place: Challenged) -> None:
    judge = JudgeEndpoint(url="http://127.0.0.1:9/v1", model="judge", rubric="Brevity.")
    challenge_id = begin(place, shadow(), judge=judge, acts=True)
    assert beside(place, challenge_id, drawn(place, "a"), "b") is None
    kept = drawn(place, "b")
    look = beside(place, challenge_id, kept, "b", 0.5)
    assert look.difference.estimate == 0.0
    assert place.say(kept, corrected="b") is None
    look = until_final(
        beside(place, challenge_id, drawn(place, f"answer {number}"), "better", 1.0) for number in range(60)
    )
    assert look.decision is ChallengeDecision.PROMOTE
    assert in_force(place) == 2


def test_a_shadows_answer_goes_with_its_request(place: Challenged) -> None:
    challenge_id = begin(place, shadow())
    kept = drawn(place)
    beside(place, challenge_id, kept, "billing")
    forget(place.store, place.project_id, completion_id=kept.id)
    with place.store.reading() as connection:
        assert shadow_answer_of(connection, kept.id) is None


# ------------------------------------------------------------------------------------------------ beginning and ending


def test_one_challenge_of_a_name_at_a_time(place: Challenged) -> None:
    begun = begin_challenge(place.store, place.project_id, canary(), who="ann")
    assert (begun.num_keys, begun.num_keeping) == (1, 1)
    assert (begun.terms.grading.grader, begun.terms.acts) == ("exact_label", False)
    with pytest.raises(ConfigError, match="runs already"):
        begin(place, shadow())
    end_challenge(place.store, place.project_id, NAME, who="bob", reason="enough seen")
    with pytest.raises(ConfigError, match="no challenge"):
        end_challenge(place.store, place.project_id, NAME, who="bob")
    begin(place, shadow())
    first, second = challenge_states(place.store, place.project_id, NAME)
    assert (first.challenge.ended_by, first.challenge.reason, first.challenge.decision) == ("bob", "enough seen", None)
    assert second.challenge.ended_at is None
    assert terms_of(second.challenge).challenge == shadow()


@pytest.mark.parametrize("change", ["promote", "roll back"])
def test_another_release_in_force_ends_the_challenge(place: Challenged, change: str) -> None:
    if change == "promote":
        begin(place, canary())
        promote(place.store, place.project_id, NAME, 2, who="bob")
    else:
        promote(place.store, place.project_id, NAME, 2, who="bob")
        begin(place, replace(canary(), challenger=1))
        roll_back(place.store, place.project_id, NAME, to=None, who="bob")
    [state] = challenge_states(place.store, place.project_id, NAME)
    assert (state.challenge.ended_by, state.challenge.decision) == ("bob", None)
    assert [kind for _, kind, _ in events(place)][-2] == "challenge ended"
    assert place.ask("anything").assigned is None


def test_what_cannot_be_begun_is_refused(place: Challenged) -> None:
    with pytest.raises(ConfigError, match="in force itself"):
        begin(place, replace(canary(), challenger=1))
    with pytest.raises(NoSuchReleaseError):
        begin(place, replace(canary(), challenger=7))
    with pytest.raises(ConfigError, match="'house_style'"):
        begin(place, canary(), grader="house_style")
    with pytest.raises(ConfigError, match="no JSON schema"):
        begin(place, shadow(), grader="json_valid")
    with pytest.raises(ConfigError, match="only a shadow"):
        begin(place, canary(), judge=JudgeEndpoint(url="http://x/v1", model="m", rubric="r"))
    with pytest.raises(ConfigError, match="not promoted by itself"):
        begin(place, shadow(), acts=True)
    assert not runs(place)


def test_a_challenger_that_gates_refuse_is_shown_to_nobody(store: Store, base: Path) -> None:
    place = challenged(store, base, FAILED)
    with pytest.raises(ReleaseRefusedError, match="personal_data"):
        begin(place, canary())
    begin(place, shadow())
    assert runs(place)


def test_keys_that_keep_nothing_are_told(place: Challenged) -> None:
    create_key(place.store, "other")
    begun = begin_challenge(place.store, place.project_id, canary(), who="ann")
    assert (begun.num_keys, begun.num_keeping) == (2, 1)


# ------------------------------------------------------------------------------------------------------ two processes


def test_two_processes_decide_once(tmp_path: Path, base: Path) -> None:
    """Two stores of one database, as two API processes have them, take feedback at the same time."""
    with fresh_database() as url:
        stores = [Store(tmp_path / "home", url), Store(tmp_path / "home", url)]
        place = challenged(stores[0], base)
        places = [place, Challenged(store=stores[1], key=place.key)]
        begin(place, canary(), acts=True)
        requests = list(itertools.islice(answers(place, right=2), 60))

        def say(number: int) -> Look | None:
            kept, is_right = requests[number]
            return places[number % 2].say(kept, score=float(is_right))

        with ThreadPoolExecutor(4) as pool:
            looks = [look for look in pool.map(say, range(len(requests))) if look is not None]
        final = [look for look in looks if look.is_final]
        assert [look.decision for look in final] == [ChallengeDecision.PROMOTE]
        assert len(looks) < len(requests), "feedback that comes after the decision has to be among them"
        assert [kind for _, kind, _ in events(place)].count("promoted") == 2
        assert in_force(place) == 2
        for store in stores:
            store.close()


def test_two_processes_keep_shadows_answers_at_the_same_time(tmp_path: Path, base: Path) -> None:
    with fresh_database() as url:
        stores = [Store(tmp_path / "home", url), Store(tmp_path / "home", url)]
        place = challenged(stores[0], base)
        places = [place, Challenged(store=stores[1], key=place.key)]
        challenge_id = begin(place, shadow(0.99))
        requests = [drawn(place, f"answer {number}") for number in range(20)]
        with ThreadPoolExecutor(4) as pool:
            answered = pool.map(
                lambda number: beside(places[number % 2], challenge_id, requests[number], "billing"),
                range(len(requests)),
            )
            assert list(answered) == [None] * len(requests)
        with stores[1].reading() as connection:
            assert all(shadow_answer_of(connection, one.id) is not None for one in requests)
        for store in stores:
            store.close()


def test_equal_arms_are_hardly_ever_told_apart(place: Challenged) -> None:
    """8 canaries with 60 outcomes, looked at after each one, through the store; at most 1 in 20 may err, on average."""
    rng = np.random.default_rng(3)
    wrong = 0
    for run in range(8):
        challenge_id = begin(place, canary(expected_score=0.7))
        with place.store.writing() as connection:
            for number in range(60):
                held = hold_challenge(connection, challenge_id)
                if held is None:
                    wrong += 1
                    break
                side = assigned(held, f"{run} {number}")
                outcome = StoredOutcome(
                    completion_id=f"chatcmpl-{run}-{number}",
                    assignment=side.assignment,
                    is_challenger=side.by_challenger,
                    score=float(rng.random() < 0.7),
                )
                take_outcome(connection, held, outcome)
        if runs(place):
            end_challenge(place.store, place.project_id, NAME, who="ann")
    assert wrong <= 2  # of 8 at 5 %, more have a probability of 0.6 %, and of less as the test is stricter
