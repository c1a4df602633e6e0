"""The benchmarks that need a GPU, or long, run as they are on something small; their charts hold what was measured."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))


@pytest.mark.long
def test_the_gpu_benchmark_runs_as_it_is_with_a_tiny_model() -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), "--small", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    own, shared = said["small own fettle"], said["small shared fettle"]
    for figures in (own, shared):
        assert figures["gradient_difference"] < 1e-4
        assert figures["tokens_per_s"] > 0
        assert figures["peak_mib"] > 1
    assert 0 < own["share_of_ceiling"] < 1
    assert "share_of_ceiling" not in shared


def measured(engine: str, sweep: str, value: int, **figures: Any) -> dict[str, Any]:
    return {"engine": engine, "sweep": sweep, "value": value} | figures


def test_the_growth_chart_shows_the_medians_and_leaves_out_what_ran_out_of_memory(benchmarks: None) -> None:
    from growth import panels  # pyright: ignore[reportMissingImports]
    from growth_chart import drawn  # pyright: ignore[reportMissingImports]

    results = [
        *(measured("fettle", "rank", 4, seconds=seconds, mib=1.0) for seconds in (2.0, 1.0, 9.0)),
        measured("fettle", "rank", 128, seconds=3.0, mib=1.0),
        measured("trl", "rank", 4, seconds=8.0, mib=1.0),
        measured("trl", "rank", 128, out_of_memory=True),
        measured("fettle", "examples", 16, seconds=1.0, mib=1.0),
    ]
    found = panels(results)
    assert [[(curve.name, curve.points) for curve in panel.curves] for panel in found] == [
        [("Fettle", ((16, 1.0),))],
        [("Fettle", ((4, 2.0), (128, 3.0))), ("TRL SFTTrainer with PEFT", ((4, 8.0),))],
    ]
    chart = ElementTree.fromstring(drawn(found))
    dots = [title.text for title in chart.iter(f"{SVG}title")]
    assert dots == ["16: 1 s", "4: 2 s", "128: 3 s", "4: 8 s"]
    assert all(0 <= float(dot.get("cx", "")) <= float(chart.get("width", "")) for dot in chart.iter(f"{SVG}circle"))


def test_the_rows_of_growth_have_the_tokens_that_they_say(benchmarks: None, tmp_path: Path) -> None:
    from fettle.models.load import load_tokenizer
    from fettle.models.resolve import resolve_model
    from growth import Point, bundled_words, write_rows  # pyright: ignore[reportMissingImports]

    tokenizer = load_tokenizer(resolve_model(None))
    point = Point("own prompt", 300, 3, 3, num_own_tokens=300)
    file = write_rows(point, tokenizer, bundled_words(), tmp_path)
    rows = [json.loads(line)["messages"] for line in file.read_text().splitlines()]
    assert len(rows) == 3
    assert len({row[0]["content"] for row in rows}) == 1
    assert len({row[1]["content"] for row in rows}) == 3
    for row in rows:
        assert abs(len(tokenizer(row[1]["content"]).input_ids) - 300) <= 6


def test_a_peer_without_room_is_left_out(benchmarks: None) -> None:
    from growth import Point, peer_gib  # pyright: ignore[reportMissingImports]

    assert 5 < peer_gib(Point("examples", 16, 16, 16), 49_152) < 6
    assert peer_gib(Point("own prompt", 4096, 4, 4, num_own_tokens=4096), 49_152) > 24


def test_answers_that_are_mixed_up_are_told_from_those_that_are_right(benchmarks: None) -> None:
    from chats import Answer, Question  # pyright: ignore[reportMissingImports]
    from many_adapters import Checked, checked  # pyright: ignore[reportMissingImports]

    phrases = {"base": None, "a": "Desk A.", "b": "Desk B."}
    right = {"base": "Hello.", "a": "Desk A. Hello.", "b": "Desk B. Hello."}

    def answer(text: str, failure: str | None = None) -> Any:
        return Answer(text=text, first_token_seconds=0.1, failure=failure)

    def found(model: str, *answers: Any) -> Any:
        question = Question(model, "Hello?")
        return checked([(question, each) for each in answers], {question: answer(right[model])}, phrases)

    none = {
        "num_with_own_phrase": 0,
        "num_that_lost_it": 0,
        "num_with_phrase_of_another": 0,
        "num_of_base_with_phrase": 0,
        "num_failed": 0,
        "num_of_adapters": 0,
        "num_not_as_alone": 0,
        "num_answers": 1,
    }
    assert found("base", answer("Hello.")) == Checked(**none)
    assert found("a", answer("Desk A. Hello.")) == Checked(**none | {"num_of_adapters": 1, "num_with_own_phrase": 1})
    rounded = found("a", answer("Desk A. Hi."))
    assert rounded.is_right
    assert rounded.num_not_as_alone == 1
    for model, wrong, counted in (
        ("a", answer("Hello."), "num_that_lost_it"),
        ("a", answer("Desk A. Desk B. Hello."), "num_with_phrase_of_another"),
        ("base", answer("Desk A. Hello."), "num_of_base_with_phrase"),
        ("b", answer("Desk B.", "RemoteProtocolError: cut"), "num_failed"),
    ):
        mixed = found(model, answer(right[model]), wrong)
        assert not mixed.is_right
        assert getattr(mixed, counted) == 1
        assert mixed.num_answers == 2


def test_an_adapter_that_has_not_learned_its_phrase_shows_nothing(benchmarks: None) -> None:
    from chats import Answer, Question  # pyright: ignore[reportMissingImports]
    from many_adapters import require_learned  # pyright: ignore[reportMissingImports]

    texts = {"1": "Desk A. Hello.", "2": "Hello.", "3": "Hi."}
    alone = {
        Question("a", number): Answer(text=text, first_token_seconds=0.1, failure=None)
        for number, text in texts.items()
    }
    half = dict(list(alone.items())[:2])
    require_learned(half, {"base": None, "a": "Desk A."})
    with pytest.raises(SystemExit, match="a has not learned its phrase"):
        require_learned(alone, {"base": None, "a": "Desk A."})


def test_adapters_of_the_benchmark_learn_from_the_same_messages_none_of_which_are_asked(benchmarks: None) -> None:
    from chats import inbox  # pyright: ignore[reportMissingImports]
    from desks import NUM_LEFT_ROWS, PHRASES, training_rows  # pyright: ignore[reportMissingImports]

    asked = {row["message"] for row in inbox()[:NUM_LEFT_ROWS]}
    rows = {name: [row["messages"] for row in training_rows(name, 16)] for name in PHRASES}
    learned = {name: [messages[1]["content"] for messages in of_name] for name, of_name in rows.items()}
    assert all(texts == learned["harbour"] and len(set(texts)) == 16 for texts in learned.values())
    assert not asked & set(learned["harbour"])
    for name, of_name in rows.items():
        for messages in of_name:
            assert messages[2]["content"].startswith(f"{PHRASES[name]} ")
            assert sum(phrase in messages[2]["content"] for phrase in PHRASES.values()) == 1


def test_the_benchmark_of_search_asks_by_vector_and_by_words_as_the_product_does(
    benchmarks: None, tmp_path: Path
) -> None:
    from retrieval import Fettle  # pyright: ignore[reportMissingImports]
    from retrieval_measure import Data  # pyright: ignore[reportMissingImports]

    np.save(tmp_path / "vectors.npy", np.eye(8, dtype=np.float32))
    (tmp_path / "texts.json").write_text(json.dumps([f"article number {row}{row}" for row in range(8)]))
    data, place = Data(tmp_path), tmp_path / "index"
    Fettle().build(data, place)
    search = Fettle().hybrid(place, data)
    assert search is not None
    assert search(np.eye(8, dtype=np.float32)[3], "article 33")[0] == 3
    assert set(search(np.eye(8, dtype=np.float32)[3], "55")[:2]) == {3, 5}
