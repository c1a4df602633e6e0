"""A contender's answers through the engine that serves, one request at a time, for the gates."""

from __future__ import annotations

import time
from collections.abc import Sequence

from fettle.answering.chat import ChatRequest, begin_streams
from fettle.answering.engine_pool import EnginePool
from fettle.answering.sampling import Sampling
from fettle.answering.serving_engine import ServingEngine
from fettle.errors import DataError
from fettle.forgetting.must_still_work import MustStillWork
from fettle.jobs.catalogue import StoreCatalogue
from fettle.progress import Listener, Stage
from fettle.records import Answer, FinishReason, Message, Usage
from fettle.releases.catalogue import served_as
from fettle.releases.gates.gate import AnsweredAgain
from fettle.releases.prompting import as_asked
from fettle.releases.records import ReleasedContender
from fettle.report_records import AnswerRow
from fettle.store.database import Store

_SPARE_TOKENS = 8


class ReleaseAsker:
    """Asks contenders as the server does.

    Args:
        store: Where their models are kept.
        pool: Holds the engines.
        listener: Is told of the progress.
    """

    def __init__(self, store: Store, pool: EnginePool, listener: Listener) -> None:
        self._models, self._pool, self._listener = StoreCatalogue(store), pool, listener

    def again(
        self, contender: ReleasedContender, name: str, rows: Sequence[AnswerRow], *, project_id: str, count: int
    ) -> tuple[AnsweredAgain, ...]:
        """Test rows of a study answered once more, the first ones again where there are fewer than `count`.

        Args:
            contender: Who answers.
            name: Its key in the study: no answer may be longer than the longest of its answers there.
            rows: Of the study.
            project_id: Whose model it is.
            count: How many requests are made.

        Raises:
            FettleError: The model cannot be asked.
        """
        answered = [row for row in rows if name in row.answers and name not in row.errors]
        if not answered:
            raise DataError("the study has no answers of this contender", where=name, remedy="name another contender")
        model = served_as(self._models.find(contender.model, project_id), contender)
        found = []
        with self._pool.engine_of(model) as engine:
            longest = _longest(engine, [row.answers[name] for row in answered])
            for number in range(count):
                row = answered[number % len(answered)]
                messages = (Message(role="user", content=row.input_text),)
                answer = self._answer(engine, model.name if model.adapter else None, contender, messages, longest)
                found.append(AnsweredAgain(row=row, text=answer.text, seconds=answer.usage.seconds))
                self._listener.on_stage(Stage(name="answering again", num_done=number + 1, num_total=count))
        return tuple(found)

    def must_pass(self, contender: ReleasedContender, wanted: MustStillWork, *, project_id: str) -> tuple[Answer, ...]:
        """One answer to each example that must pass, in their order.

        Raises:
            FettleError: The model cannot be asked.
        """
        model = served_as(self._models.find(contender.model, project_id), contender)
        found = []
        with self._pool.engine_of(model) as engine:
            longest = int(1.25 * _longest(engine, [one.answer for one in wanted.examples])) + _SPARE_TOKENS
            for number, example in enumerate(wanted.examples, start=1):
                found.append(
                    self._answer(
                        engine,
                        model.name if model.adapter else None,
                        contender,
                        example.prompt,
                        longest,
                        example_id=example.id,
                    )
                )
                stage = Stage(name="answering what must pass", num_done=number, num_total=len(wanted.examples))
                self._listener.on_stage(stage)
        return tuple(found)

    def _answer(
        self,
        engine: ServingEngine,
        adapter: str | None,
        contender: ReleasedContender,
        messages: tuple[Message, ...],
        max_new_tokens: int,
        *,
        example_id: str = "",
    ) -> Answer:
        request = ChatRequest(messages=messages, sampling=Sampling(), max_new_tokens=max_new_tokens)
        asked = as_asked(request, contender, chooses_temperature=False)
        started = time.perf_counter()
        [stream] = begin_streams(engine, asked, adapter=adapter)
        piece = stream.whole()
        return Answer(
            example_id=example_id,
            text=piece.text,
            finish_reason=piece.finish_reason or FinishReason.STOP,
            usage=Usage(
                prompt_tokens=stream.num_prompt_tokens,
                completion_tokens=piece.num_tokens,
                seconds=time.perf_counter() - started,
            ),
        )


def _longest(engine: ServingEngine, answers: Sequence[str]) -> int:
    """Tokens of the longest answer, its end included."""
    return max(1, *(len(engine.loaded.renderer.answer_tokens(answer)) for answer in answers))
