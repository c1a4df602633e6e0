"""An endpoint that says which of two answers to one request is better, in both orders, as `fettle judge` asks it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fettle.answering.engine import Engine
from fettle.answering.engines.openai_http import OpenAIEngine
from fettle.judging.asking import OPTIONS, questions_of
from fettle.judging.bias import judged_pair
from fettle.judging.records import JudgeReply, Pair
from fettle.judging.reply import read_reply
from fettle.releases.terms import JudgeEndpoint

_REMEDY = "check --judge-url, --judge-model and FETTLE_REMOTE_API_KEY"


class PairJudge:
    """Asks judges; what was opened for one stays open until it fails.

    Args:
        engine_of: Opens an endpoint.
    """

    def __init__(self, engine_of: Callable[[JudgeEndpoint], Engine] | None = None) -> None:
        self._engine_of = engine_of or _endpoint
        self._engines: dict[JudgeEndpoint, Engine] = {}

    def preference(
        self, judge: JudgeEndpoint, asked: Sequence[Mapping[str, Any]], challenger: str, incumbent: str
    ) -> float | None:
        """1: the challenger's answer is better, 0: the incumbent's, 1/2: a tie, or the two orders contradict each other.

        None: the judge did not reply in both orders, or not readably.

        Args:
            judge: Who is asked.
            asked: The messages of the request.
            challenger: Its answer.
            incumbent: The other one. Where both say the same nobody is asked.
        """
        is_equal = challenger.strip() == incumbent.strip()
        pair = Pair(
            example_id="pair",
            asked=_as_text(asked),
            challenger=challenger,
            baseline=incumbent,
            is_equal=is_equal,
            cluster=0,
            score_difference=None,
        )
        replies = [] if is_equal else self._replies(judge, pair)
        return judged_pair(pair, replies).preference

    def close(self) -> None:
        """Close what is open. What is asked afterwards is opened anew."""
        for judge in list(self._engines):
            self._engines.pop(judge).close()

    def _replies(self, judge: JudgeEndpoint, pair: Pair) -> list[JudgeReply]:
        if judge not in self._engines:
            self._engines[judge] = self._engine_of(judge)
        engine = self._engines[judge]
        questions = questions_of(pair, rubric=judge.rubric, judge_identity=engine.name, repeats=1)
        answers = engine.generate([question.prompt for question in questions], OPTIONS)
        if any(answer.has_failed for answer in answers):
            self._engines.pop(judge).close()  # it may have given the endpoint up; the next pair tries anew
        found = []
        for question, answer in zip(questions, answers, strict=True):
            if not answer.has_failed:
                reading = read_reply(answer.text)
                found.append(
                    JudgeReply(order=question.order, repeat=question.repeat, pick=reading.pick, reason=reading.reason)
                )
        return found


def _endpoint(judge: JudgeEndpoint) -> Engine:
    return OpenAIEngine(judge.url, judge.model, remedy=_REMEDY)


def _as_text(messages: Sequence[Mapping[str, Any]]) -> str:
    """A conversation as a judge reads it; the one turn alone, where there is one."""
    if len(messages) == 1:
        return str(messages[0].get("content") or "")
    return "\n\n".join(f"{message['role']}: {message.get('content') or ''}" for message in messages)
