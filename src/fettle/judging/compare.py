"""One judge over the answers of two contenders: the questions, the replies, and every figure of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fettle.answering.engine import Engine
from fettle.errors import RemoteError
from fettle.files import alone_with
from fettle.judging.asking import Asked, Question, ask, questions_of
from fettle.judging.bias import flip_rate, judged_pair, position_bias
from fettle.judging.pairs import SampledPairs, sampled_pairs
from fettle.judging.people import PeopleVotes, beside_people, votes_of_people
from fettle.judging.records import JudgedComparison, JudgedPair, JudgeReply, JudgingCost, Pair, ReplyCounts
from fettle.judging.reply import read_reply
from fettle.judging.rubric import Rubric
from fettle.judging.settings import JudgeSettings, TokenPrices
from fettle.progress import Listener, SilentListener
from fettle.report_records import StudyReport
from fettle.statistics.length_control import length_controlled_win_rate
from fettle.votes.vote_file import FILE_NAME

FOLDER = "judging"
"""Of a study's folder: where replies are kept."""
MOST_FAILED = 0.1
"""Share of questions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    """A model that compares answers, and what it is told to look at."""

    engine: Engine
    rubric: Rubric
    weights_sha256: str | None = None
    """Of a model on this machine, whose name alone does not say which it is; None: it is known by the engine's name."""

    @property
    def identity(self) -> str:
        """What its replies are kept under, beside the prompt."""
        return f"{self.engine.name} {self.weights_sha256 or ''}".strip()


def judge_study(
    report: StudyReport,
    judge: Judge,
    settings: JudgeSettings,
    *,
    folder: Path,
    people: PeopleVotes | None = None,
    listener: Listener | None = None,
) -> JudgedComparison:
    """Have a judge compare two contenders' answers to the test examples of a study, each pair in both orders.

    Args:
        report: The study.
        judge: Who is asked.
        settings: What is compared, and how often.
        folder: The study's. Replies are kept in it, and not asked for again.
        people: What people prefer, on a random sample of the examples; None: as they voted by `fettle vote`.
        listener: Is told after each batch.

    Raises:
        ConfigError: A contender is not in the report.
        DataError: No example was answered by both contenders, or the votes of people cannot be read.
        StudyConflictError: Another process asks a judge about this study.
        RemoteError: More than a tenth of the requests failed, or no pair has a readable reply in both orders.
    """
    sampled = sampled_pairs(report, settings, folder=folder)
    contenders = sampled.poll.contenders
    votes = votes_of_people(sampled.poll, folder / FILE_NAME) if people is None else people
    questions = [() if pair.is_equal else _questions(pair, judge, settings) for pair in sampled.pairs]
    what = f"{judge.engine.name} compares {contenders.challenger} with {contenders.baseline}"
    with alone_with(folder / FOLDER / ".lock", doing="asking a judge about this study", remedy="wait for it"):
        asked = ask(
            judge.engine,
            [question for of_pair in questions for question in of_pair],
            file=folder / FOLDER / "replies.jsonl",
            what=what,
            listener=listener or SilentListener(),
        )
    judged = [
        judged_pair(pair, _replies(of_pair, asked)) for pair, of_pair in zip(sampled.pairs, questions, strict=True)
    ]
    outcome = _Outcome(counts=_counts(judged, asked, questions), cost=_cost(asked, settings.prices))
    _require_replies(outcome.counts)
    return _compared(sampled, judged, judge, settings, outcome, votes)


def _questions(pair: Pair, judge: Judge, settings: JudgeSettings) -> tuple[Question, ...]:
    return questions_of(pair, rubric=judge.rubric.text, judge_identity=judge.identity, repeats=settings.repeats)


def _replies(questions: Sequence[Question], asked: Asked) -> tuple[JudgeReply, ...]:
    found = []
    for question in questions:
        if (kept := asked.replies.get(question.key)) is not None:
            reading = read_reply(kept.text)
            found.append(
                JudgeReply(order=question.order, repeat=question.repeat, pick=reading.pick, reason=reading.reason)
            )
    return tuple(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Outcome:
    """What became of the questions, and what it took."""

    counts: ReplyCounts
    cost: JudgingCost


def _compared(
    sampled: SampledPairs,
    judged: Sequence[JudgedPair],
    judge: Judge,
    settings: JudgeSettings,
    outcome: _Outcome,
    people: PeopleVotes,
) -> JudgedComparison:
    position = position_bias(sampled.pairs, judged)
    if position is None and outcome.counts.num_questions:
        raise _nothing_readable(outcome.counts)
    decided = [
        (pair, one.preference) for pair, one in zip(sampled.pairs, judged, strict=True) if one.preference is not None
    ]
    preferences = [preference for _, preference in decided]
    controlled = length_controlled_win_rate(
        preferences,
        [(len(pair.challenger), len(pair.baseline)) for pair, _ in decided],
        [pair.cluster for pair, _ in decided],
    )
    without_people = JudgedComparison(
        judge=judge.engine.name,
        rubric=judge.rubric.text,
        rubric_origin=judge.rubric.origin,
        challenger=sampled.poll.contenders.challenger,
        baseline=sampled.poll.contenders.baseline,
        repeats=settings.repeats,
        sample=settings.sample,
        answers_sha256=sampled.sha256(),
        num_pairs=len(judged),
        num_equal=sum(one.is_equal for one in judged),
        num_unanswered=sampled.poll.num_failed,
        num_undecided=len(judged) - len(decided),
        win_rate=controlled.raw,
        num_wins=sum(preference > 0.5 for preference in preferences),
        num_ties=sum(preference == 0.5 for preference in preferences),
        num_losses=sum(preference < 0.5 for preference in preferences),
        length_controlled=controlled.controlled,
        position=position,
        length=None,
        flips=flip_rate(sampled.pairs, judged),
        counts=outcome.counts,
        cost=outcome.cost,
        agreement=None,
        corrected=None,
        faults=(),
        pairs=tuple(judged),
    )
    return beside_people(without_people, sampled.pairs, people)


def _counts(judged: Sequence[JudgedPair], asked: Asked, questions: Sequence[Sequence[Question]]) -> ReplyCounts:
    picks = [reply.pick for one in judged for reply in one.replies]
    num_questions = sum(map(len, questions))
    num_readable = sum(pick is not None for pick in picks)
    return ReplyCounts(
        num_questions=num_questions,
        num_readable=num_readable,
        num_unreadable=len(picks) - num_readable,
        num_failed=num_questions - len(picks),
        failures=dict(asked.failures.most_common()),
    )


def _require_replies(counts: ReplyCounts) -> None:
    """Pairs that nobody needed to ask about are ties, so too many failed requests would make the contenders look alike.

    Raises:
        RemoteError: More than a tenth of the questions were not answered.
    """
    if counts.num_failed > MOST_FAILED * counts.num_questions:
        raise RemoteError(
            f"the judge did not answer {counts.num_failed:,} of {counts.num_questions:,} questions "
            f"({next(iter(counts.failures))}); the other replies are kept",
            remedy="check --endpoint, --model and FETTLE_REMOTE_API_KEY, then run the same command: it goes on where it was",
        )


def _cost(asked: Asked, prices: TokenPrices | None) -> JudgingCost:
    replies = asked.replies.values()
    prompt_tokens = sum(reply.prompt_tokens for reply in replies)
    reply_tokens = sum(reply.completion_tokens for reply in replies)
    return JudgingCost(
        prompt_tokens=prompt_tokens,
        reply_tokens=reply_tokens,
        seconds=sum(reply.seconds for reply in replies),
        price=None if prices is None else prices.of(prompt_tokens, reply_tokens),
    )


def _nothing_readable(counts: ReplyCounts) -> RemoteError:
    return RemoteError(
        f"on no pair can the judge's replies be read in both orders ({counts.num_unreadable:,} of "
        f"{counts.num_readable + counts.num_unreadable:,} replies are unreadable)",
        remedy=f"look at {FOLDER}/replies.jsonl in the study's folder, and take a model that follows instructions",
    )
