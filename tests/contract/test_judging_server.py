"""`fettle serve` as a judge: its structured output leaves even a random model nothing but verdicts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from chat_server import BASE, serving_chat

from build_report import text_report
from fettle.answering.engines.openai_http import OpenAIEngine
from fettle.judging.compare import Judge, judge_study
from fettle.judging.rubric import Rubric
from fettle.judging.settings import JudgeSettings
from fettle.settings import get_settings

pytestmark = pytest.mark.any_database


@pytest.fixture
def fresh_settings() -> Iterator[None]:
    get_settings.cache_clear()
    yield
    get_settings.cache_clear()


@pytest.mark.usefixtures("fresh_settings")
def test_the_server_judges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = text_report(num_rows=20)
    rows = [
        replace(row, answers={"tuned": "Here.", "few_shot": f"There, {row.example_id}."}, input_text="Where?")
        for row in report.rows[:4]
    ]
    with serving_chat(tmp_path / "server") as served:
        monkeypatch.setenv("FETTLE_REMOTE_API_KEY", served.key)
        with closing(OpenAIEngine(f"{served.url}/v1", BASE)) as engine:
            judge = Judge(engine=engine, rubric=Rubric(text="Be right.", origin="the test"))
            judged = judge_study(replace(report, rows=tuple(rows)), judge, JudgeSettings(), folder=tmp_path / "study")
    assert (judged.counts.num_readable, judged.counts.num_unreadable, judged.counts.num_failed) == (8, 0, 0)
    assert judged.cost.prompt_tokens > 8 * 20
    assert judged.cost.seconds > 0
