"""Studies that another engine answers, once it has been shown to answer as the reference does."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
from command import Runner
from reports import load, require_consistent
from studies import LABEL_STUDY, Study, require_refused

BASE_IN_PLACE_OF_TUNED = """
from dataclasses import replace
import fettle.study.engines as engines
export_source = engines.export_source
def base_instead(source, settings, listener):
    folder = source.base.path if source.is_adapter else source.folder
    return export_source(replace(source, folder=folder, is_adapter=False), settings, listener)
engines.export_source = base_instead
"""
WITHOUT_ENGINES = """
import sys
sys.modules["openvino_genai"] = sys.modules["llama_cpp"] = None
"""


def needs(module: str) -> Any:
    return pytest.mark.skipif(importlib.util.find_spec(module) is None, reason=f"{module} is not installed")


ENGINES = [
    pytest.param("llamacpp", "llama.cpp", id="llama.cpp", marks=needs("llama_cpp")),
    pytest.param("openvino", "OpenVINO GenAI", id="OpenVINO", marks=needs("openvino_genai")),
]


def scores(report: Any) -> dict[str, Any]:
    return {one["name"]: one["metrics"] for one in report["contenders"]}


@pytest.mark.parametrize(("engine", "name"), ENGINES)
def test_a_study_of_labels_comes_out_as_with_the_reference(
    engine: str, name: str, fettle: Runner, label_study: Study, tmp_path: Path
) -> None:
    folder = tmp_path / "study"
    words = (*LABEL_STUDY, "--out", folder, "--answer-with", engine)
    finished = fettle(*words)
    assert finished.code == label_study.finished.code, finished.everything
    assert f"{engine} answers for the base and the tuned model" in finished.everything
    report, of_reference = load(folder), load(label_study.folder)
    require_consistent(report)
    described = {one["name"]: one["description"] for one in report["contenders"]}
    assert described["tuned"].startswith(f"model + adapter by {name}")
    assert described["prompt"].startswith(f"model by {name}")
    assert scores(report).keys() == scores(of_reference).keys()
    assert report["provenance"]["settings"]["answer_with"]["kind"] == engine
    assert not (folder / "engines").exists(), "an engine's files are gone with it"
    require_refused(fettle(*LABEL_STUDY, "--out", folder), "with other settings")
    assert fettle(*words).code == finished.code, "a finished study goes on to the same end"


@pytest.mark.long
@pytest.mark.parametrize(
    ("engine", "name", "data"),
    [
        pytest.param("llamacpp", "llama.cpp", "json.jsonl", marks=needs("llama_cpp")),
        pytest.param("openvino", "OpenVINO GenAI", "text.jsonl", marks=needs("openvino_genai")),
    ],
)
def test_json_and_text_are_answered_too(engine: str, name: str, data: str, fettle: Runner, tmp_path: Path) -> None:
    finished = fettle(
        "study", data, "--model", "model", "--epochs", "1", "--precision", "exact", "--out", tmp_path / "study",
        "--answer-with", engine,
    )  # fmt: skip
    assert finished.code in (0, 3, 4), finished.everything
    report = load(tmp_path / "study")
    require_consistent(report)
    assert name in {one["name"]: one["description"] for one in report["contenders"]}["tuned"]


@needs("llama_cpp")
def test_all_weights_may_have_been_trained(fettle: Runner, tmp_path: Path) -> None:
    finished = fettle(
        *LABEL_STUDY, "--method", "full", "--out", tmp_path / "study", "--answer-with", "llamacpp"
    )  # fmt: skip
    assert finished.code in (0, 3, 4), finished.everything
    assert (
        "by llama.cpp" in {one["name"]: one["description"] for one in load(tmp_path / "study")["contenders"]}["tuned"]
    )


@pytest.mark.parametrize(("engine", "name"), ENGINES)
def test_an_engine_that_answers_with_the_base_model_ends_the_study(
    engine: str, name: str, fettle: Runner, tmp_path: Path
) -> None:
    words = (*LABEL_STUDY, "--out", tmp_path / "study", "--answer-with", engine)
    finished = fettle.start(*words, preamble=BASE_IN_PLACE_OF_TUNED).wait()
    assert finished.code == 1, finished.everything
    assert "what was trained is left out" in finished.everything
    assert "leave out what asks for it, and the reference answers" in finished.everything
    assert "Traceback" not in finished.everything
    assert not (tmp_path / "study" / "report.json").exists()


def test_what_cannot_be_is_refused_before_anything_is_read(fettle: Runner, tmp_path: Path) -> None:
    out = tmp_path / "study"
    start = ("study", "nowhere.csv", "--out", out, "--answer-with")
    require_refused(fettle(*start, "ollama"), "there is no engine 'ollama'", "vllm=URL")
    require_refused(fettle(*start, "vllm"), "needs the address")
    require_refused(
        fettle(
            "study",
            "labels.csv",
            "--model",
            "model",
            "--method",
            "full",
            "--out",
            out,
            "--answer-with",
            "vllm=http://x/v1",
        ),
        "no whole models",
    )
    for engine, extra in (("openvino", "fettle-llm[openvino]"), ("llamacpp", "fettle-llm[llamacpp]")):
        words = ("study", "labels.csv", "--model", "model", "--out", out, "--answer-with", engine)
        require_refused(fettle.start(*words, preamble=WITHOUT_ENGINES).wait(), "is not installed", extra)
    assert not out.exists()


def test_nothing_listens_where_vllm_should(fettle: Runner, tmp_path: Path) -> None:
    finished = fettle(*LABEL_STUDY, "--out", tmp_path / "study", "--answer-with", "vllm=http://127.0.0.1:9/v1")
    require_refused(finished, "the vLLM server did not answer", "FETTLE_VLLM_API_KEY")
