"""Where people vote: what a person is asked next, and what becomes of the answer. All of it is read from the file each time."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from fettle.errors import ConfigError
from fettle.votes.poll import Matchup, Poll
from fettle.votes.records import Choice, Undo, Vote, standing_votes
from fettle.votes.vote_file import append_record, read_records


@dataclass(frozen=True, slots=True, kw_only=True)
class Ballot:
    """What a person sees: nothing in it says whose answer is whose."""

    example_id: str
    input_text: str
    left_answer: str
    right_answer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How far a person has come."""

    num_done: int
    """Skipped ones are among them."""
    num_asked: int
    seconds_per_vote: float | None
    """The median so far."""
    ballot: Ballot | None
    """None: there is nothing left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Booth:
    """One poll and the file that its votes go to."""

    poll: Poll
    path: Path

    def standing(self, rater: str) -> Standing:
        """What a person has done, and what comes next.

        Raises:
            DataError: The file is damaged.
        """
        votes = self._votes(rater)
        done = {vote.example_id for vote in votes}
        asked = self.poll.asked
        following = next((matchup for matchup in asked if matchup.example_id not in done), None)
        return Standing(
            num_done=len(done),
            num_asked=len(asked),
            seconds_per_vote=statistics.median(vote.seconds for vote in votes) if votes else None,
            ballot=None if following is None else self._ballot(following, rater),
        )

    def cast(self, rater: str, example_id: str, choice: Choice, *, seconds: float, comment: str) -> None:
        """Keep a vote; it is on the disk before this returns. An earlier one of this person on the example is replaced.

        Raises:
            ConfigError: Nobody is asked about this example, or the file cannot be written.
            DiskFullError: No space is left.
        """
        matchup = next((one for one in self.poll.asked if one.example_id == example_id), None)
        if matchup is None:
            raise ConfigError(
                f"nobody is asked about an example {example_id[:80]!r} here", remedy="load the page again"
            )
        vote = Vote(
            rater=rater,
            example_id=example_id,
            sides=self.poll.sides(example_id, rater),
            choice=choice,
            seconds=round(seconds, 1),
            at=_now(),
            answers_sha256=matchup.answers_sha256,
            comment=comment.strip(),
        )
        append_record(self.path, vote)

    def undo(self, rater: str) -> None:
        """Take back the latest vote of a person; without one, nothing happens.

        Raises:
            DataError: The file is damaged.
            ConfigError: It cannot be written.
            DiskFullError: No space is left.
        """
        votes = self._votes(rater)
        if votes:
            latest = votes[-1]
            undo = Undo(rater=rater, example_id=latest.example_id, sides=latest.sides, at=_now())
            append_record(self.path, undo)

    def _votes(self, rater: str) -> list[Vote]:
        """The person's votes on this poll that hold, the latest last."""
        return [vote for vote in votes_on(self.poll, read_records(self.path)) if vote.rater == rater]

    def _ballot(self, matchup: Matchup, rater: str) -> Ballot:
        answers = [matchup.challenger_answer, matchup.baseline_answer]
        if self.poll.sides(matchup.example_id, rater).left != self.poll.contenders.challenger:
            answers.reverse()
        return Ballot(
            example_id=matchup.example_id,
            input_text=matchup.input_text,
            left_answer=answers[0],
            right_answer=answers[1],
        )


def votes_on(poll: Poll, records: tuple[Vote | Undo, ...]) -> tuple[Vote, ...]:
    """The votes that hold and are about these contenders, these examples and these very answers."""
    sha256 = {matchup.example_id: matchup.answers_sha256 for matchup in poll.asked}
    return tuple(vote for vote in votes_between(poll, records) if sha256.get(vote.example_id) == vote.answers_sha256)


def votes_between(poll: Poll, records: tuple[Vote | Undo, ...]) -> tuple[Vote, ...]:
    """The votes that hold and are about these contenders, whatever they had answered then."""
    names = {poll.contenders.challenger, poll.contenders.baseline}
    return tuple(vote for vote in standing_votes(records) if {vote.sides.left, vote.sides.right} == names)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
