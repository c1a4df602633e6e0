"""Whole studies of a tiny model beside an endpoint that knows the answers: a router is made of both."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from planted_studies import Bench, home_at, questions, write_rows

from fettle.errors import ConfigError
from fettle.records import TaskKind, TokenLogProb
from fettle.routing.confidence import Measure, confidences
from fettle.routing_records import RoutingReport
from fettle.study.answers import read_answers
from fettle.study.report import read_report
from fettle.study.run import run_study
from fettle.study.settings import RemoteModel, RoutingSettings, StudySettings
from local_endpoint import Reply, completion, endpoint
from tiny_models import save_tiny_model

ROWS = questions(48)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("bench")
    save_tiny_model(folder / "model", "qwen2")
    write_rows(folder / "labels.jsonl", ROWS)
    with home_at(folder / "home"):
        yield Bench(folder)


def knowing(body: dict[str, Any], number: int) -> Reply:
    """The wanted label, as structured output where it is asked for."""
    asked = body["messages"][-1]["content"]
    label = next((label for question, label in ROWS if question in asked), "billing")
    return completion(f'{{"label": "{label}"}}' if "response_format" in body else label)


def written(bench: Bench, url: str, out: Path, *, num_samples: int = 0) -> StudySettings:
    """A study of texts beside the endpoint."""
    return replace(
        bench.settings,
        task=TaskKind.TEXT,
        graders=("exact_text",),
        max_new_tokens=6,
        remote=RemoteModel(url=url, model="large"),
        routing=RoutingSettings(target=0.6, level=0.8, num_samples=num_samples),
        out=out,
    )


def assert_benchmark_agrees(bench: Bench, routing: RoutingReport) -> None:
    """`benchmarks/router.py` reads the same scores and confidences from the study's folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parents[3] / "benchmarks"))
        from router import bench_of, expected_quality, split_outcomes  # pyright: ignore[reportMissingImports]

        found = bench_of(bench.folder / "study", [bench.folder / "labels.jsonl"], large="remote")
        assert found.measure == routing.rule.measure
        assert found.test.small.mean() == pytest.approx(routing.small_quality.estimate)
        assert found.test.large.mean() == 1.0
        outcomes = split_outcomes(found, 0.6, num_splits=5)
        assert all(one.is_kept or one.quality < 0.6 for one in outcomes)
        share, quality = expected_quality(found, 0.6, num_splits=5)
        assert 0 <= share <= 1
        assert quality >= found.test.small.mean() - 0.2


def test_labels_are_trusted_for_their_likelihoods_and_another_target_asks_nothing_again(bench: Bench) -> None:
    with endpoint(knowing) as served:
        remote = RemoteModel(url=served.url, model="large")
        settings = replace(bench.settings, remote=remote, routing=RoutingSettings(target=0.6, level=0.8))
        first = run_study(settings).report
        num_asked = len(served.requests)
        assert first.routing is not None
        assert (first.routing.small, first.routing.large) == ("tuned", "remote")
        assert {one.measure for one in first.routing.measures} == {"label_margin", "label_probability"}
        assert first.routing.large_quality.estimate == 1.0
        assert first.routing.is_promised
        assert (first.routing.target, first.routing.level) == (0.6, 0.8)
        again = run_study(replace(settings, routing=RoutingSettings(target=0.7, level=0.8))).report
        assert len(served.requests) == num_asked
    assert again.routing is not None
    assert_benchmark_agrees(bench, again.routing)
    assert again.routing.target == 0.7
    assert again.routing.share_to_large.estimate >= first.routing.share_to_large.estimate
    assert read_report(bench.folder / "study" / "report.json").routing == again.routing


def test_written_answers_tell_their_probabilities_where_a_target_was_named(bench: Bench, tmp_path: Path) -> None:
    with endpoint(knowing) as served:
        settings = written(bench, served.url, tmp_path / "written")
        report = run_study(settings).report
        assert report.routing is not None
        assert report.routing.rule.measure == "mean_token_log_probability"
    kept = read_answers(tmp_path / "written" / "answers" / "test" / "tuned.jsonl")
    assert len(kept) == len(report.rows)
    assert all(one.log_probs for one in kept)
    assert {type(token) for one in kept for token in one.log_probs or ()} == {TokenLogProb}
    assert confidences(kept)[Measure.TOKEN_LOG_PROBABILITY].max() < 0


def test_samples_are_drawn_once_and_their_agreement_is_one_more_measure(bench: Bench, tmp_path: Path) -> None:
    with endpoint(knowing) as served:
        settings = written(bench, served.url, tmp_path / "study", num_samples=3)
        report = run_study(settings).report
        assert report.routing is not None
        measures = {one.measure for one in report.routing.measures}
        assert measures == {"mean_token_log_probability", "self_consistency"}
        folder = tmp_path / "study" / "answers" / "samples"
        samples = [
            read_answers(folder / part / f"tuned-{n}.jsonl") for part in ("validation", "test") for n in range(3)
        ]
        assert [len(one) for one in samples] == [report.num_examples["valid"]] * 3 + [report.num_examples["test"]] * 3
        assert len({tuple(answer.text for answer in one) for one in samples[3:]}) > 1, "they are drawn"
        before = [file.stat().st_mtime_ns for file in sorted(folder.rglob("*.jsonl"))]
        again = run_study(settings).report
        assert again.routing == report.routing
        assert [file.stat().st_mtime_ns for file in sorted(folder.rglob("*.jsonl"))] == before


def test_samples_that_say_nothing_are_refused_before_anything_is_asked(bench: Bench) -> None:
    sampling = RoutingSettings(num_samples=3)
    with pytest.raises(ConfigError, match="--route-samples"):
        replace(bench.settings, routing=sampling)
    remote = RemoteModel(url="http://127.0.0.1:9/v1", model="large")
    with pytest.raises(ConfigError, match="labels need no samples"):
        run_study(replace(bench.settings, remote=remote, routing=sampling))
    with pytest.raises(ConfigError):
        RoutingSettings(num_samples=1)
