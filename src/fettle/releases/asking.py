"""A contender's answers through the engine that serves, one request at a time, for the gates."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager

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
from fettle.releases.passages import ContenderSearch, searching
from fettle.releases.prompting import as_asked
from fettle.releases.records import ReleasedContender
from fettle.report_records import AnswerRow
from fettle.retrieval.citations import with_citations
from fettle.retrieval.embedder import PassageEmbedder
from fettle.retrieval.embedders.registry import embedder_by_name
from fettle.store.database import Store

_SPARE_TOKENS = 8


class ReleaseAsker:
    """Asks contenders as the server does.

    Args:
        store: Where their models are kept.
        pool: Holds the engines.
        listener: Is told of the progress.
        load_embedder: Loads what their indexes are searched with.
    """

    def __init__(
        self,
        store: Store,
        pool: EnginePool,
        listener: Listener,
        *,
        load_embedder: Callable[[str], PassageEmbedder] = embedder_by_name,
    ) -> None:
        self._store, self._models, self._pool, self._listener = store, StoreCatalogue(store), pool, listener
        self._load_embedder = load_embedder

    def again(
        self,
        contender: ReleasedContender,
        name: str,
        rows: Sequence[AnswerRow],
        *,
        project_id: str,
        count: int,
        prompts: Mapping[str, tuple[Message, ...]] | None = None,
    ) -> tuple[AnsweredAgain, ...]:
        """Test rows of a study answered once more, the first ones again where there are fewer than `count`.

        Args:
            contender: Who answers.
            name: Its key in the study: no answer may be longer than the longest of its answers there.
            rows: Of the study.
            project_id: Whose model it is.
            count: How many requests are made.
            prompts: What is asked, by the row's id, and rows without one are left out; None: what the rows say.

        Raises:
            FettleError: The model cannot be asked.
        """
        if prompts is None:
            prompts = {row.example_id: (Message(role="user", content=row.input_text),) for row in rows}
        rows = [row for row in rows if row.example_id in prompts]
        answered = [row for row in rows if name in row.answers and name not in row.errors]
        if not answered:
            raise DataError("the study has no answers of this contender", where=name, remedy="name another contender")
        model = served_as(self._models.find(contender.model, project_id), contender)
        found = []
        with self._searching(contender, project_id) as search, self._pool.engine_of(model) as engine:
            longest = _longest(engine, [row.answers[name] for row in answered]) + _num_citation_tokens(
                engine, contender
            )
            for number in range(count):
                row = answered[number % len(answered)]
                adapter, messages = model.name if model.adapter else None, prompts[row.example_id]
                answer = self._answer(engine, adapter, contender, messages, longest, search=search)
                found.append(
                    AnsweredAgain(row=row, text=answer.text, seconds=answer.usage.seconds, passages=answer.passages)
                )
                self._listener.on_stage(Stage(name="answering again", num_done=number + 1, num_total=count))
        return tuple(found)

    def must_pass(self, contender: ReleasedContender, wanted: MustStillWork, *, project_id: str) -> tuple[Answer, ...]:
        """One answer to each example that must pass, in their order.

        Raises:
            FettleError: The model cannot be asked.
        """
        model = served_as(self._models.find(contender.model, project_id), contender)
        found = []
        with self._searching(contender, project_id) as search, self._pool.engine_of(model) as engine:
            longest = (
                _num_citation_tokens(engine, contender)
                + int(1.25 * _longest(engine, [one.answer for one in wanted.examples]))
                + _SPARE_TOKENS
            )
            for number, example in enumerate(wanted.examples, start=1):
                found.append(
                    self._answer(
                        engine,
                        model.name if model.adapter else None,
                        contender,
                        example.prompt,
                        longest,
                        example_id=example.id,
                        search=search,
                    )
                )
                stage = Stage(name="answering what must pass", num_done=number, num_total=len(wanted.examples))
                self._listener.on_stage(stage)
        return tuple(found)

    def _searching(
        self, contender: ReleasedContender, project_id: str
    ) -> AbstractContextManager[ContenderSearch | None]:
        return searching(self._store, contender, project_id, self._load_embedder)

    def _answer(
        self,
        engine: ServingEngine,
        adapter: str | None,
        contender: ReleasedContender,
        messages: tuple[Message, ...],
        max_new_tokens: int,
        *,
        example_id: str = "",
        search: ContenderSearch | None = None,
    ) -> Answer:
        started, passages = time.perf_counter(), ()
        request = ChatRequest(messages=messages, sampling=Sampling(), max_new_tokens=max_new_tokens)
        asked = as_asked(request, contender, chooses_temperature=False)
        if search is not None:
            asked, passages = search.shown(engine, asked, messages)
        [stream] = begin_streams(engine, asked, adapter=adapter)
        piece = stream.whole()
        return Answer(
            example_id=example_id,
            text=piece.text if search is None else search.read(piece.text),
            passages=passages,
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


def _num_citation_tokens(engine: ServingEngine, contender: ReleasedContender) -> int:
    """Tokens that naming every passage takes, which studies leave out of the answers they keep."""
    if contender.index is None or not contender.index.asks_for_citations:
        return 0
    return len(engine.loaded.renderer.answer_tokens(with_citations("", range(1, contender.index.num_passages + 1))))
