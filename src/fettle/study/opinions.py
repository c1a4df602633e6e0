"""What judges and people say of a study's answers, read from beside its report. It is shown there, and decides nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fettle.errors import ConfigError, DataError
from fettle.judging import document
from fettle.judging.pairs import sampled_pairs
from fettle.judging.people import beside_people, votes_of_people
from fettle.judging.records import JudgedComparison
from fettle.judging.settings import JudgeSettings
from fettle.report_records import StudyReport
from fettle.votes import vote_file
from fettle.votes.poll import Contenders, chosen_contenders, make_poll
from fettle.votes.records import Undo, Vote, standing_votes
from fettle.votes.tally import Tally, tally


@dataclass(frozen=True, slots=True, kw_only=True)
class Opinions:
    """Judgements and votes on the answers that a report holds."""

    judged: tuple[JudgedComparison, ...] = ()
    """Those on the declared contenders first, of judges that can be used first, and then the newest; held against all votes
    that people have cast since."""
    voted: tuple[Tally, ...] = ()
    """One for each two contenders that people have voted on, the declared ones first."""
    problems: tuple[str, ...] = ()
    """What is left out, and why; in sentences."""


NO_OPINIONS = Opinions()


def opinions_on(report: StudyReport, folder: Path) -> Opinions:
    """What is known by now.

    What cannot be read, or is about answers that another run has changed, is told of among the problems: it must not keep a
    finished study from its report.

    Args:
        report: The study's.
        folder: Where the report lies, and `judged.json` and `votes.jsonl` beside it.
    """
    problems: list[str] = []
    declared = _declared(report)
    judged = sorted(
        _judged(report, folder, problems),
        key=lambda one: ({one.challenger, one.baseline} != declared, not one.is_usable),
    )
    voted = tuple(_voted(report, folder, problems))
    return Opinions(judged=tuple(judged), voted=voted, problems=tuple(problems))


def _judged(report: StudyReport, folder: Path, problems: list[str]) -> Iterator[JudgedComparison]:
    file = folder / document.FILE
    if not file.exists():
        return
    try:
        kept = document.read_judged(file)
    except DataError as error:
        problems.append(f"{document.FILE} is left out: {error.problem}.")
        return
    kept.reverse()
    for one in kept:
        current = _held_against_people(one, report, folder)
        if current is None:
            problems.append(
                f"What {one.judge} said of {one.challenger} and {one.baseline} is left out: it is about answers that have changed "
                "since. Run `fettle judge` again."
            )
        else:
            yield current


def _held_against_people(judged: JudgedComparison, report: StudyReport, folder: Path) -> JudgedComparison | None:
    """The judgement beside the votes that there are now; None: it is about other answers."""
    settings = JudgeSettings(between=(judged.challenger, judged.baseline), sample=judged.sample)
    try:
        sampled = sampled_pairs(report, settings, folder=folder)
    except (ConfigError, DataError):  # a contender is gone, or has failed throughout
        return None
    if sampled.sha256() != judged.answers_sha256 or len(sampled.pairs) != len(judged.pairs):
        return None
    try:
        people = votes_of_people(sampled.poll, folder / vote_file.FILE_NAME)
    except DataError:  # told of where the votes are read
        return judged
    return beside_people(judged, sampled.pairs, people)


def _voted(report: StudyReport, folder: Path, problems: list[str]) -> Iterator[Tally]:
    try:
        records = vote_file.read_records(folder / vote_file.FILE_NAME)
    except DataError as error:
        place = Path(error.where or vote_file.FILE_NAME).name
        problems.append(f"People’s votes are left out: {place}: {error.problem}.")
        return
    for contenders in _voted_on(report, records, problems):
        try:
            poll = make_poll(report, contenders, num_sampled=None, where=str(folder))
        except DataError as error:
            problems.append(f"Votes are left out: {error.problem}.")
            continue
        if not poll.has_clusters:
            problems.append(
                "An older Fettle wrote this report and did not keep which examples belong together: intervals take each for itself."
            )
        yield tally(poll, records)


def _voted_on(report: StudyReport, records: tuple[Vote | Undo, ...], problems: list[str]) -> Iterator[Contenders]:
    """The contenders of each two that there are votes on; those of the declared comparison first, in its direction."""
    declared = _declared(report)
    pairs = {frozenset((vote.sides.left, vote.sides.right)) for vote in standing_votes(records)}
    ranks = {contender.name: (not contender.is_fine_tuned, contender.name) for contender in report.contenders}
    for pair in sorted(pairs, key=lambda pair: (pair != declared, sorted(pair))):
        if not pair <= ranks.keys():
            problems.append(f"Votes on {' and '.join(sorted(pair))} are left out: this study has no such contenders.")
        elif pair == declared:
            yield chosen_contenders(report, None)
        else:
            challenger, baseline = sorted(pair, key=ranks.__getitem__)
            yield Contenders(challenger=challenger, baseline=baseline)


def _declared(report: StudyReport) -> frozenset[str]:
    """The two of the declared comparison; none where there is no such."""
    return next(
        (frozenset((one.challenger, one.baseline)) for one in report.comparisons if one.is_primary), frozenset[str]()
    )
