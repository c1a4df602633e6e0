"""Routers over real engines, without a server: confidence that is foreseen, requests that nobody waits for, stops."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest

from adapters import write_adapter
from databases import fresh_store
from fettle.answering.chat import ChatRequest
from fettle.answering.engine import GenerationOptions, JsonForm
from fettle.answering.engine_pool import EnginePool
from fettle.answering.engines.local import LocalEngine
from fettle.answering.engines.shared_engine import SharedEngine
from fettle.answering.sampling import Sampling
from fettle.answering.stream import AnswerStream
from fettle.errors import BusyError, ConfigError, RemoteError
from fettle.form_records import AnswerForm
from fettle.models.load import load_model
from fettle.models.precision import Precision
from fettle.records import FinishReason, Message, Prompt
from fettle.releases.prompting import as_asked
from fettle.releases.records import ContenderKind, Release, ReleasedContender, Router
from fettle.releases.routed import Errand, RoutedReleases
from fettle.routing.confidence import self_consistency, token_log_probability
from fettle.routing.router import AnsweredBy, Reason
from fettle.routing.small import sampled
from fettle.routing_records import RoutingRule
from fettle.store.database import Store
from indexed import WordEmbedder
from kept_models import keep_tuned
from kept_releases import keep_release
from local_endpoint import completion, endpoint
from tiny_models import load_tiny_model, save_tiny_model

REQUEST = ChatRequest(messages=(Message(role="user", content="refund please"),), sampling=Sampling(), max_new_tokens=4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What routers are made of."""

    store: Store
    pool: EnginePool
    router: Router
    studied: LocalEngine
    """The small contender as a study asks it."""


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parts]:
    folder = tmp_path_factory.mktemp("routed")
    base = save_tiny_model(folder / "tiny-llama", "llama")
    pool = EnginePool(load=lambda source, _: load_model(source, Precision.EXACT))
    with fresh_store(folder / "home") as store:
        adapter = write_adapter(load_tiny_model(base), folder / "adapter", seed=1)
        model = keep_tuned(store, base, adapter)
        router = Router(
            small=ReleasedContender(kind=ContenderKind.TUNED, model=model.id, instruction="Sort it."),
            large=ReleasedContender(kind=ContenderKind.PROMPT, model=model.base, instruction="Sort it well."),
            rule=RoutingRule(measure="mean_token_log_probability", threshold=0.5),
            policy_when_large_fails="fail",
        )
        studied = LocalEngine(load_tiny_model(base), adapter=adapter)
        yield Parts(store=store, pool=pool, router=router, studied=studied)
    pool.close()


@pytest.fixture
def routed(parts: Parts) -> Iterator[RoutedReleases]:
    made = RoutedReleases(parts.store, parts.pool, WordEmbedder)
    yield made
    made.close()


def release(parts: Parts, **values: Any) -> Release:
    return keep_release(parts.store, "triage", replace(parts.router, **values))


def test_what_is_foreseen_from_the_request_as_it_came_decides(parts: Parts, routed: RoutedReleases) -> None:
    [vector] = WordEmbedder().embed(["refund please"])  # without the instruction
    sure = RoutingRule(measure="foreseen", threshold=0.99, coefficients=tuple(map(float, vector)), intercept=0.0)
    given = routed.route(release(parts, rule=sure), Errand(request=REQUEST))
    assert (given.answered_by, given.reason) == (AnsweredBy.SMALL, Reason.TRUSTED)
    assert given.confidence == pytest.approx(float(np.dot(vector, vector)))
    assert given.answer.log_probs is None  # nobody has asked for them: in JSON they would take more passes
    unsure = replace(sure, threshold=1.01)
    assert routed.route(release(parts, rule=unsure), Errand(request=REQUEST)).answered_by is AnsweredBy.LARGE


def test_labels_are_read_as_the_study_read_them(parts: Parts, routed: RoutedReleases) -> None:
    labels = ("refund", "lost parcel")
    small = replace(parts.router.small, form=AnswerForm(labels=labels))
    for liked in labels:
        rule = RoutingRule(
            measure="label_probability",
            threshold=0.0,
            labels=labels,
            reading="calibrated label likelihood",
            label_offsets={label: -1000.0 if label == liked else 0.0 for label in labels},
        )
        given = routed.route(release(parts, small=small, rule=rule), Errand(request=REQUEST))
        assert given.answer.text == liked
        assert given.confidence is not None
        assert 0 <= given.confidence <= 1


@pytest.mark.parametrize(
    "schema", [None, '{"type": "object", "properties": {"a": {"enum": [1, 2, 3]}}, "required": ["a"]}']
)
def test_samples_agree_as_far_as_in_a_study(parts: Parts, routed: RoutedReleases, schema: str | None) -> None:
    """The study's engine and the server's draw the same samples to the same prompt, so that the confidence is the same."""
    small = replace(parts.router.small, form=None if schema is None else AnswerForm(json_schema=schema))
    rule = RoutingRule(measure="self_consistency", threshold=0.4, num_samples=4, temperature=0.7)
    options = GenerationOptions(max_new_tokens=24, form=None if schema is None else JsonForm(schema=schema))
    made = release(parts, small=small, rule=rule)
    confidences = set()
    for text in ("refund please", "where is it", "hello", "cancel my order", "thanks"):
        request = replace(REQUEST, messages=(Message(role="user", content=text),), max_new_tokens=24)
        prompt = Prompt(example_id="", messages=as_asked(request, small, chooses_temperature=False).messages)
        [answer] = parts.studied.generate([prompt], options)
        drawn = [parts.studied.generate([prompt], sampled(options, number))[0] for number in range(4)]
        expected = self_consistency(answer, drawn, is_json=schema is not None)
        given = routed.route(made, Errand(request=request))
        assert given.confidence == expected
        assert (given.answered_by is AnsweredBy.SMALL) == (expected is not None and expected >= 0.4)
        confidences.add(expected)
    assert len(confidences) > 1


def test_samples_end_where_the_study_cut_them(parts: Parts, routed: RoutedReleases) -> None:
    rule = RoutingRule(measure="self_consistency", threshold=0.0, num_samples=3, temperature=0.7, max_sample_tokens=6)
    request = replace(REQUEST, max_new_tokens=24)  # or none at all: then up to the end of the context
    prompt = Prompt(example_id="", messages=as_asked(request, parts.router.small, chooses_temperature=False).messages)
    given = routed.route(release(parts, rule=rule), Errand(request=request))
    assert given.answer.usage.completion_tokens == 24
    drawn = [
        parts.studied.generate([prompt], sampled(GenerationOptions(max_new_tokens=6), number))[0] for number in range(3)
    ]
    assert given.confidence == self_consistency(given.answer, drawn, is_json=False)


def test_samples_that_are_not_all_taken_are_not_written(
    parts: Parts, routed: RoutedReleases, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[AnswerStream] = []
    submit = SharedEngine.submit

    def full_after_two(engine: SharedEngine, prompt: Prompt, options: GenerationOptions, **more: Any) -> AnswerStream:
        if not options.sampling.temperature:
            return submit(engine, prompt, options, **more)
        if len(taken) == 2:
            raise BusyError("all places are taken", remedy="ask again", retry_after_seconds=1)
        taken.append(submit(engine, prompt, options, **more))
        return taken[-1]

    monkeypatch.setattr(SharedEngine, "submit", full_after_two)
    rule = RoutingRule(measure="self_consistency", threshold=0.0, num_samples=4, temperature=0.7)
    given = routed.route(release(parts, rule=rule), Errand(request=REQUEST))
    assert (given.answered_by, given.reason) == (AnsweredBy.LARGE, Reason.NOT_TRUSTED)
    assert [stream.is_given_up for stream in taken] == [True, True]


def test_a_written_answer_is_as_sure_as_it_was_in_the_study_its_end_included(
    parts: Parts, routed: RoutedReleases
) -> None:
    kept = {"type": "object", "properties": {"queue": {"enum": ["refund", "lost"]}}, "required": ["queue"]}
    schema = json.dumps(kept | {"additionalProperties": False})
    small = replace(parts.router.small, form=AnswerForm(json_schema=schema, item_separator=", ", key_separator=": "))
    for most_tokens in (64, 3):  # one that ends by itself, and one that is cut
        request = replace(REQUEST, max_new_tokens=most_tokens)
        rule = replace(parts.router.rule, threshold=-1e9)
        given = routed.route(release(parts, small=small, rule=rule), Errand(request=request))
        asked = as_asked(request, small, chooses_temperature=False)
        options = GenerationOptions(max_new_tokens=most_tokens, form=asked.text_form, num_top_log_probs=0)
        [answer] = parts.studied.generate([Prompt(example_id="", messages=asked.messages)], options)
        assert answer.finish_reason is (FinishReason.STOP if most_tokens > 3 else FinishReason.LENGTH)
        assert given.answer.text.strip() == answer.text
        assert given.confidence == pytest.approx(token_log_probability(answer), abs=1e-3)


def test_nobody_else_is_asked_for_a_request_that_was_given_up(parts: Parts, routed: RoutedReleases) -> None:
    with endpoint(lambda body, number: completion("Hello")) as large:
        remote = ReleasedContender(kind=ContenderKind.REMOTE, model="m", url=large.url)
        made = release(parts, large=remote, budget_per_day=1.0, large_cost_per_request=0.5)
        errand = Errand(request=replace(REQUEST, max_new_tokens=200))
        errand.give_up()
        with pytest.raises(RemoteError, match="nobody waits"):
            routed.route(made, errand)
        assert not large.requests
        for _ in range(2):  # it has cost nothing of the day's budget
            assert routed.route(made, Errand(request=REQUEST)).answered_by is AnsweredBy.LARGE


def test_what_a_shadow_spends_leaves_users_their_budget(parts: Parts, routed: RoutedReleases) -> None:
    with endpoint(lambda body, number: completion("Hello")) as large:
        remote = ReleasedContender(kind=ContenderKind.REMOTE, model="m", url=large.url)
        made = keep_release(
            parts.store,
            "shadowed",
            replace(parts.router, large=remote, budget_per_day=1.0, large_cost_per_request=0.5),
        )
        for is_unseen in (True, False):
            for _ in range(2):
                errand = Errand(request=REQUEST, is_unseen=is_unseen)
                assert routed.route(made, errand).answered_by is AnsweredBy.LARGE
            with pytest.raises(BusyError, match="budget"):
                routed.route(made, Errand(request=REQUEST, is_unseen=is_unseen))


def test_an_endpoint_is_waited_for_as_long_as_the_router_says_and_no_connection_is_made_before(
    parts: Parts, routed: RoutedReleases
) -> None:
    remote = ReleasedContender(kind=ContenderKind.REMOTE, model="m", url="http://127.0.0.1:9/v1")  # nobody listens
    sure = replace(parts.router.rule, threshold=-1e9)
    assert routed.route(release(parts, large=remote, rule=sure), Errand(request=REQUEST)).reason is Reason.TRUSTED
    with pytest.raises(RemoteError, match="the large model did not answer"):
        routed.route(release(parts, large=remote), Errand(request=REQUEST))


def test_a_measure_that_needs_what_is_not_there_is_refused(parts: Parts, routed: RoutedReleases) -> None:
    for measure in ("self_consistency", "tea leaves", "foreseen"):
        rule = RoutingRule(measure=measure, threshold=0.0)
        with pytest.raises(ConfigError):
            routed.route(release(parts, rule=rule), Errand(request=REQUEST))


def test_an_endpoint_that_answers_without_a_text_has_not_answered(parts: Parts, routed: RoutedReleases) -> None:
    with endpoint(lambda body, number: completion(None, finish_reason="content_filter")) as silent:
        remote = ReleasedContender(kind=ContenderKind.REMOTE, model="m", url=silent.url)
        router = replace(
            parts.router,
            large=remote,
            policy_when_large_fails="answer_small",
            budget_per_day=1.0,
            large_cost_per_request=0.7,
        )
        kind = keep_release(parts.store, "silent", router)
        given = routed.route(kind, Errand(request=REQUEST))
        assert (given.answered_by, given.reason) == (AnsweredBy.SMALL, Reason.LARGE_FAILED)
        assert given.problem == "the endpoint answered without a text"
        assert routed.route(kind, Errand(request=REQUEST)).reason is Reason.BUDGET_SPENT  # it was paid all the same
        with pytest.raises(RemoteError, match="without a text"):
            routed.route(release(parts, large=remote), Errand(request=REQUEST))
        with pytest.raises(RemoteError, match="without a text"):
            routed.ask(keep_release(parts.store, "far", remote), Errand(request=REQUEST))


def test_an_endpoint_alone_that_never_ends_its_answer_is_not_waited_for_without_end(
    parts: Parts, routed: RoutedReleases, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_over = threading.Event()

    class Dripping(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "100000")
            self.end_headers()
            while not is_over.wait(0.01):  # something comes before every time-out of a read
                self.wfile.write(b" ")

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (its name in the library)
            pass

    monkeypatch.setattr("fettle.releases.routed._ALONE_SECONDS", 0.3)
    with ThreadingHTTPServer(("127.0.0.1", 0), Dripping) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/v1"
        alone = keep_release(parts.store, "far", ReleasedContender(kind=ContenderKind.REMOTE, model="m", url=url))
        try:
            with pytest.raises(RemoteError, match=r"did not answer within 0\.3 seconds"):
                routed.ask(alone, Errand(request=REQUEST))
        finally:
            is_over.set()
            server.shutdown()
