"""The pairs of answers that a judge compares: those that people are asked about, in the same order, as they see them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fettle.files import sha256_of_json
from fettle.judging.records import Pair
from fettle.judging.settings import JudgeSettings
from fettle.report_records import AnswerRow, StudyReport
from fettle.votes.poll import Contenders, Matchup, Poll, chosen_contenders, make_poll


@dataclass(frozen=True, slots=True, kw_only=True)
class SampledPairs:
    """What is compared, in the random order in which it is asked about: what was asked before a kill is a random sample too."""

    poll: Poll
    pairs: tuple[Pair, ...]

    def sha256(self) -> str:
        """Hash over everything that is judged."""
        return sha256_of_json([[pair.example_id, pair.asked, pair.challenger, pair.baseline] for pair in self.pairs])


def sampled_pairs(report: StudyReport, settings: JudgeSettings, *, folder: Path) -> SampledPairs:
    """The pairs of two contenders' answers.

    Raises:
        ConfigError: A contender is not in the report.
        DataError: No example was answered by both.
    """
    contenders = chosen_contenders(report, settings.between)
    poll = make_poll(report, contenders, num_sampled=settings.sample, where=str(folder))
    rows = {row.example_id: row for row in report.rows}
    pairs = tuple(_pair(matchup, rows[matchup.example_id], contenders) for matchup in poll.matchups)
    return SampledPairs(poll=poll, pairs=pairs)


def _pair(matchup: Matchup, row: AnswerRow, contenders: Contenders) -> Pair:
    ours, theirs = row.scores.get(contenders.challenger), row.scores.get(contenders.baseline)
    return Pair(
        example_id=matchup.example_id,
        asked=matchup.input_text,
        challenger=matchup.challenger_answer,
        baseline=matchup.baseline_answer,
        is_equal=matchup.is_equal,
        cluster=matchup.cluster,
        score_difference=None if ours is None or theirs is None else ours - theirs,
    )
