"""Releases that a router answers, or an endpoint: each request is answered whole, by whoever is to answer it.

What outlives a request is kept for each release: the connections to its endpoint, which is not asked for half a minute once it has
failed several times in a row; the threads in which the large contender is asked; and the budget, which lies in the store. No
connection is opened for a release without an endpoint.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from fettle.answering.chat import ChatRequest, begin_streams
from fettle.answering.endpoint_client import Patience
from fettle.answering.engine import GenerationOptions, JsonForm
from fettle.answering.engine_pool import EnginePool, ServedModel
from fettle.answering.engines.openai_http import OpenAIEngine
from fettle.answering.sampling import Sampling
from fettle.answering.serving_engine import ServingEngine
from fettle.answering.stream import AnswerStream
from fettle.errors import RemoteError
from fettle.jobs.catalogue import StoreCatalogue
from fettle.records import Answer, FinishReason, Prompt, Usage
from fettle.releases.catalogue import served_as
from fettle.releases.prompting import as_asked, with_instruction
from fettle.releases.records import Release, ReleasedContender
from fettle.releases.records import Router as RouterRelease
from fettle.retrieval.embedder import Embedder
from fettle.routing.budget import Budget, StoredBudget
from fettle.routing.confidence import Measure
from fettle.routing.judge import judge_by
from fettle.routing.router import NUM_LARGE_AT_ONCE, RoutedAnswer, Router, RouterSettings, WithoutLarge
from fettle.routing.small import sampled, small_answering
from fettle.store.database import Store

_ENDPOINT_TOKENS = 2048
"""Of an answer of an endpoint, where the request does not say: endpoints do not tell how long their context is."""
_RETRIES, _PAUSE_SECONDS = 1, 30.0
_SECONDS_TO_SPARE = 300.0
"""Beyond all tries of a request, before its reservation expires: it may have waited for a thread."""
_UNSEEN = " (unseen)"
"""No name of releases ends so: what shadows of a name spend is counted apart."""
_ALONE_SECONDS = 120.0
"""That an endpoint has where no router bounds it."""

Prepare = Callable[[ServingEngine, ChatRequest], ChatRequest]
"""Puts before a request, as the contender is asked, what has to be looked up for it: passages."""


@dataclass(slots=True, eq=False)
class Errand:
    """One request, for as long as somebody waits for its answer."""

    request: ChatRequest
    """As it came; of its sampling nothing is looked at."""
    prepare: Prepare | None = None
    """For the small contender; None: nothing is looked up."""
    is_unseen: bool = False
    """Whether a shadow asks: users are not to be without the large contender for it, so that it has a budget of its own."""
    asked_of_small: ChatRequest | None = None
    """The request as the small contender was asked; None: it was not yet."""
    is_given_up: bool = False
    _streams: list[AnswerStream] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def prompt(self) -> Prompt:
        """As it came."""
        return Prompt(example_id="", messages=self.request.messages)

    def give_up(self) -> None:
        """Say that nobody waits any more: what is being written here ends, and nobody else is asked."""
        with self._lock:
            self.is_given_up = True
            streams = tuple(self._streams)
        for stream in streams:
            stream.give_up()

    def whole(self, stream: AnswerStream, started: float) -> Answer:
        """Wait for an answer that is being written."""
        with self._lock:
            self._streams.append(stream)
        if self.is_given_up:
            stream.give_up()
        piece = stream.whole()
        usage = Usage(
            prompt_tokens=stream.num_prompt_tokens,
            completion_tokens=piece.num_tokens,
            seconds=time.perf_counter() - started,
        )
        reason = piece.finish_reason or FinishReason.STOP
        log_probs = (
            *piece.log_probs,
            *piece.other_log_probs,
        )  # of all tokens, as in a study: else it is another measure
        return Answer(
            example_id="",
            text=piece.text,
            finish_reason=reason,
            usage=usage,
            log_probs=log_probs if log_probs and len(log_probs) == piece.num_tokens else None,
        )

    def require_wanted(self) -> None:
        """End here where nobody waits any more.

        Raises:
            RemoteError: So it is.
        """
        if self.is_given_up:
            raise RemoteError("nobody waits for the answer any more")


class RoutedReleases:
    """Answers for releases with a router or an endpoint. Safe for threads.

    Args:
        store: Where models are kept, and budgets are counted.
        engines: Hold the models of this machine.
        embedder: Gives what confidence is foreseen by, where a router does that.
    """

    def __init__(self, store: Store, engines: EnginePool, embedder: Callable[[], Embedder]) -> None:
        self._store, self._models = store, StoreCatalogue(store)
        self._engines, self._embedder = engines, embedder
        self._open: dict[tuple[str, bool], _Open] = {}
        self._lock = threading.Lock()

    def route(self, release: Release, errand: Errand) -> RoutedAnswer:
        """The answer of a router, with who gave it and why.

        Raises:
            RemoteError: The large contender should have answered and has not, and the policy is to fail.
            BusyError: The same because today's budget is spent.
            ConfigError: Confidence cannot be measured as the release says.
        """
        router = _router_of(release)
        open_ = self._opened(release, errand)
        embedder = self._embedder() if router.rule.measure == Measure.FORESEEN else None
        settings = RouterSettings(
            threshold=router.rule.threshold,
            without_large=WithoutLarge(router.policy_when_large_fails),
            large_timeout_seconds=router.large_timeout_seconds,
            large_cost_per_request=router.large_cost_per_request,
        )
        deciding = Router(
            lambda _: self._small(release, errand),
            lambda _: self._large(release, open_, errand),
            judge_by(
                router.rule,
                embedder=embedder,
                draw=lambda _: self._samples(release, errand),
                is_json=router.small.form is not None and router.small.form.json_schema is not None,
            ),
            settings,
            budget=open_.budget,
            pool=open_.threads,
        )
        return deciding.answer(errand.prompt)

    def ask(self, release: Release, errand: Errand) -> Answer:
        """The answer of a release's endpoint.

        Raises:
            RemoteError: It does not answer.
        """
        contender = release.contender
        if isinstance(contender, RouterRelease):
            raise TypeError(f"{release} is a router, and not an endpoint alone")
        open_ = self._opened(release, errand)
        asked = open_.threads.submit(self._elsewhere, contender, open_, errand)
        try:
            answer = asked.result(timeout=_ALONE_SECONDS)  # its client bounds each wait for more, not all of them
        except FutureTimeoutError as error:
            asked.cancel()
            message = f"the endpoint did not answer within {_ALONE_SECONDS:g} seconds"
            raise RemoteError(message, remedy="ask again") from error
        if answer.has_failed:
            raise RemoteError(f"the endpoint did not answer ({answer.error})", remedy="ask again")
        return answer

    def close(self) -> None:
        """Let go of all connections; what is asked ends by itself."""
        with self._lock:
            everything = list(self._open.values())
            self._open.clear()
        for one in everything:
            one.threads.shutdown(wait=False, cancel_futures=True)
            if one.endpoint is not None:
                one.endpoint.close()

    def _opened(self, release: Release, errand: Errand) -> _Open:
        key = (release.content_sha256, errand.is_unseen)
        with self._lock:
            if key not in self._open:
                self._open[key] = self._made(release, is_unseen=errand.is_unseen)
            return self._open[key]

    def _made(self, release: Release, *, is_unseen: bool) -> _Open:
        contender = release.contender
        threads = ThreadPoolExecutor(NUM_LARGE_AT_ONCE, thread_name_prefix=f"fettle asks for {release}")
        if not isinstance(contender, RouterRelease):
            return _Open(threads=threads, endpoint=_endpoint(contender, _ALONE_SECONDS), budget=None)
        seconds = contender.large_timeout_seconds
        budget = None
        if contender.budget_per_day is not None:
            budget = StoredBudget(
                self._store,
                release.project_id,
                f"{release.name}{_UNSEEN}" if is_unseen else release.name,
                per_day=contender.budget_per_day,
                expires_after_seconds=2 * (1 + _RETRIES) * seconds + _SECONDS_TO_SPARE,  # a greeting may come before it
            )
        return _Open(threads=threads, endpoint=_endpoint(contender.large, seconds), budget=budget)

    def _small(self, release: Release, errand: Errand) -> Answer:
        """As the study's small contender answered, with what its confidence is told from."""
        router = _router_of(release)
        with self._engine_of(router.small, release.project_id) as (engine, model):
            asked = as_asked(errand.request, router.small, chooses_temperature=False)
            asked = asked if errand.prepare is None else errand.prepare(engine, asked)
            errand.asked_of_small = asked
            answering = small_answering(_One(engine, model, errand), router.rule, _options(asked, engine))
            return answering(Prompt(example_id="", messages=asked.messages))

    def _samples(self, release: Release, errand: Errand) -> Sequence[Answer]:
        """What the small contender draws to what it has just answered, all at once."""
        router, asked = _router_of(release), errand.asked_of_small
        if asked is None:
            raise TypeError(f"{router.small.model} has answered nothing yet")
        rule, prompt = router.rule, Prompt(example_id="", messages=asked.messages)
        started, streams = time.perf_counter(), list[AnswerStream]()
        try:
            with self._engine_of(router.small, release.project_id) as (engine, model):
                options, adapter = _options(asked, engine), model.name if model.adapter else None
                if rule.max_sample_tokens is not None:
                    options = replace(options, max_new_tokens=min(options.max_new_tokens, rule.max_sample_tokens))
                for number in range(rule.num_samples):
                    one = sampled(options, number, temperature=rule.temperature)
                    streams.append(engine.submit(prompt, one, adapter=adapter))
            return [errand.whole(stream, started) for stream in streams]
        except BaseException:
            for stream in streams:  # nobody waits for the others
                stream.give_up()
            raise

    def _large(self, release: Release, open_: _Open, errand: Errand) -> Answer:
        errand.require_wanted()
        large = _router_of(release).large
        if large.url is not None:
            return self._elsewhere(large, open_, errand)
        started = time.perf_counter()
        with self._engine_of(large, release.project_id) as (engine, model):
            asked = as_asked(errand.request, large, chooses_temperature=False)
            [stream] = begin_streams(engine, asked, adapter=model.name if model.adapter else None)
            return errand.whole(stream, started)

    def _elsewhere(self, contender: ReleasedContender, open_: _Open, errand: Errand) -> Answer:
        errand.require_wanted()
        if open_.endpoint is None:
            raise TypeError(f"{contender.model} has no endpoint")
        prompt = Prompt(example_id="", messages=with_instruction(errand.request.messages, contender))
        form = contender.form
        if form is not None and form.labels:
            return _with_text(open_.endpoint.choose([prompt], form.labels)[0])
        schema = None if form is None else form.json_schema
        options = GenerationOptions(
            max_new_tokens=errand.request.max_new_tokens or _ENDPOINT_TOKENS,
            form=None if schema is None else JsonForm(schema=schema),
        )
        return _with_text(open_.endpoint.generate([prompt], options)[0])

    @contextmanager
    def _engine_of(self, contender: ReleasedContender, project_id: str) -> Iterator[tuple[ServingEngine, ServedModel]]:
        model = served_as(self._models.find(contender.model, project_id), contender)
        with self._engines.engine_of(model) as engine:
            yield engine, model


@dataclass(frozen=True, slots=True, kw_only=True)
class _Open:
    """What is kept of a release between its requests."""

    threads: ThreadPoolExecutor
    """In which the large contender is asked."""
    endpoint: OpenAIEngine | None
    budget: Budget | None
    """None: there is no bound."""


class _One:
    """A serving engine, asked about one prompt at a time and waited for; see `fettle.routing.small.Asked`."""

    def __init__(self, engine: ServingEngine, model: ServedModel, errand: Errand) -> None:
        self._engine, self._errand = engine, errand
        self._adapter = model.name if model.adapter else None

    def generate(self, prompts: Sequence[Prompt], options: GenerationOptions) -> tuple[Answer, ...]:
        started = time.perf_counter()
        streams = [self._engine.submit(prompt, options, adapter=self._adapter) for prompt in prompts]
        return tuple(self._errand.whole(stream, started) for stream in streams)

    def choose(self, prompts: Sequence[Prompt], choices: Sequence[str]) -> tuple[Answer, ...]:
        return tuple(self._engine.choose(prompt, choices, adapter=self._adapter) for prompt in prompts)


def _options(asked: ChatRequest, engine: ServingEngine) -> GenerationOptions:
    """The likeliest answer, in the form of the study."""
    limit = asked.max_new_tokens or engine.max_tokens
    return GenerationOptions(max_new_tokens=limit, form=asked.text_form, sampling=Sampling())


def _with_text(answer: Answer) -> Answer:
    """The answer; one without a text, from a filter or a thought that was cut, say, is a failure, which a study scores as wrong."""
    if answer.has_failed or answer.text:
        return answer
    return replace(answer, finish_reason=FinishReason.ERROR, error="the endpoint answered without a text")


def _router_of(release: Release) -> RouterRelease:
    if not isinstance(release.contender, RouterRelease):
        raise TypeError(f"{release} is no router")
    return release.contender


def _endpoint(contender: ReleasedContender, seconds: float) -> OpenAIEngine | None:
    """The client of a contender's endpoint, which sends nothing before it is asked; None: it has none."""
    if contender.url is None:
        return None
    patience = Patience(timeout_seconds=seconds, max_retries=_RETRIES, pause_seconds=_PAUSE_SECONDS)
    return OpenAIEngine(contender.url, contender.model, patience=patience)
