"""vLLM as an engine, against a small server that speaks its API and plants faults."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from engine_cases import PROMPTS, Case, make_case
from test_other_engines import FORM, LABELS, told
from training_runs import prompt

from fettle.answering.answer_with import AnswerWith, EngineKind, parse_answer_with
from fettle.answering.engine import GenerationOptions
from fettle.answering.engines.local import LocalEngine
from fettle.answering.engines.vllm import VllmEngine
from fettle.answering.engines.vllm_server import VllmServer
from fettle.answering.same_answers import require_same_answers
from fettle.errors import ConfigError, DataError, IntegrityError, RemoteError
from vllm_server import MODEL, FakeVllm, serving


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return make_case(tmp_path_factory.mktemp("vllm"), "llama")


@pytest.fixture
def server(case: Case) -> Iterator[FakeVllm]:
    with serving(FakeVllm(case.bare)) as served:
        yield served


def tuned(case: Case, server: FakeVllm) -> VllmEngine:
    return VllmEngine(case.loaded, VllmServer(server.url), adapter=case.adapter, adapter_name="tuned-1")


def test_a_server_that_answers_as_the_reference_passes(case: Case, server: FakeVllm) -> None:
    base = VllmEngine(case.loaded, VllmServer(server.url))
    noise = require_same_answers(base, case.expected(is_tuned=False), case.rows())
    engine = tuned(case, server)
    assert require_same_answers(engine, case.expected(noise=noise), case.rows()) < 1e-4
    assert server.adapters == {"tuned-1": str(case.adapter)}
    assert engine.name == f"{MODEL} + adapter by vLLM at {server.url}"
    assert engine.max_tokens == 512
    engine.close()
    assert server.adapters == {}
    engine.close()
    assert {body["temperature"] for body in server.bodies if "temperature" in body} == {0}
    assert server.keys == {"Bearer none"}


@pytest.mark.parametrize(
    ("fault", "match"),
    [
        ({"ignores_adapter": True}, "what was trained is left out"),
        ({"own_template": True}, "given other tokens than the model was trained on"),
        ({"stops": frozenset()}, "goes on after the end of turn"),
        ({"tells_token_ids": False}, "does not say which tokens"),
    ],
    ids=lambda fault: "-".join(fault) if isinstance(fault, dict) else "",
)
def test_a_server_with_a_fault_is_refused(case: Case, fault: dict[str, object], match: str) -> None:
    with serving(replace(FakeVllm(case.bare), **fault)) as server, pytest.raises(IntegrityError, match=match):
        require_same_answers(tuned(case, server), case.expected(torch.bfloat16), case.rows())


def test_a_server_that_stops_at_another_token_is_refused(case: Case) -> None:
    stops = case.loaded.stop_token_ids | {case.rows()[1].answer[1]}
    with (
        serving(FakeVllm(case.bare, stops=stops)) as server,
        pytest.raises(IntegrityError, match="has not written an end of turn"),
    ):
        require_same_answers(tuned(case, server), case.expected(), case.rows())


def test_it_writes_and_chooses_as_the_reference(case: Case, server: FakeVllm) -> None:
    engine, local = tuned(case, server), LocalEngine(case.loaded, adapter=case.adapter)
    options = GenerationOptions(max_new_tokens=12)
    assert told(list(engine.generate(PROMPTS, options))) == told(list(local.generate(PROMPTS, options)))
    for ours, theirs in zip(engine.choose(PROMPTS, LABELS), local.choose(PROMPTS, LABELS), strict=True):
        assert ours.text == theirs.text
        assert ours.choice_log_likelihoods == pytest.approx(theirs.choice_log_likelihoods, abs=1e-3)
    local.close()


def test_an_answer_in_a_form_is_asked_for_as_structured_output(case: Case, server: FakeVllm) -> None:
    VllmEngine(case.loaded, VllmServer(server.url)).generate(
        PROMPTS[:1], GenerationOptions(max_new_tokens=2, form=FORM)
    )
    schema = server.bodies[-1]["response_format"]["json_schema"]["schema"]
    assert schema["required"] == ["queue", "urgent"]


def test_an_adapter_that_an_earlier_run_left_is_replaced(case: Case, server: FakeVllm) -> None:
    server.adapters["tuned-1"] = "elsewhere"
    tuned(case, server)
    assert server.adapters == {"tuned-1": str(case.adapter)}


def test_a_server_that_loads_no_adapters_is_refused_with_a_remedy(case: Case) -> None:
    with serving(FakeVllm(case.bare, allows_adapters=False)) as server, pytest.raises(RemoteError) as raised:
        tuned(case, server)
    assert raised.value.remedy is not None
    assert "VLLM_ALLOW_RUNTIME_LORA_UPDATING=True" in raised.value.remedy


def test_what_is_no_vllm_server_is_told_in_words(case: Case, server: FakeVllm) -> None:
    with pytest.raises(RemoteError, match="HTTP 404"):
        VllmEngine(case.loaded, VllmServer(server.url.replace("/v1", "/v2")))
    engine = VllmEngine(case.loaded, VllmServer(server.url))
    with pytest.raises(DataError, match="leaves no room"):
        engine.generate([prompt("Where is my parcel? " * 200)], GenerationOptions(max_new_tokens=4))


def test_nothing_listens_there(case: Case) -> None:
    with pytest.raises(RemoteError, match="APIConnectionError"):
        VllmEngine(case.loaded, VllmServer("http://127.0.0.1:9/v1"))


def test_the_name_on_the_command_line() -> None:
    assert parse_answer_with("local") == AnswerWith()
    assert parse_answer_with("openvino").kind is EngineKind.OPENVINO
    for wrong, told_of in (
        ("gguf", "local, openvino, llamacpp, or vllm=URL"),
        ("vllm", "needs the address"),
        ("llamacpp=x", "no other engine takes one"),
        ("vllm=ftp://x", "expected the address"),
    ):
        with pytest.raises(ConfigError, match=told_of):
            parse_answer_with(wrong)
