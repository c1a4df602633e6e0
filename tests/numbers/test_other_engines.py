"""Engines that read a GGUF file, beside the reference: what they write, choose and find likely is the same."""

from __future__ import annotations

import importlib.util
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from engine_cases import PROMPTS, Case, make_case
from training_runs import prompt

from fettle.answering.engine import GenerationOptions, JsonForm
from fettle.answering.engines.llama_cpp import LlamaCppEngine
from fettle.answering.engines.local import LocalEngine
from fettle.answering.engines.openvino import OpenVinoEngine
from fettle.answering.same_answers import require_same_answers
from fettle.errors import ConfigError, DataError, IntegrityError, ModelError
from fettle.export.settings import WeightType
from fettle.records import Answer

FAMILIES = ("llama", "qwen2", "qwen3", "mistral")
LABELS = ("late parcel", "late", "lost card", "refund", "refunded later")
FORM = JsonForm(
    schema=json.dumps(
        {
            "type": "object",
            "properties": {"queue": {"enum": ["refund", "delivery"]}, "urgent": {"type": "boolean"}},
            "required": ["queue", "urgent"],
            "additionalProperties": False,
        }
    ),
    item_separator=", ",
    key_separator=": ",
)


def installed(name: str) -> Any:
    return pytest.mark.skipif(importlib.util.find_spec(name) is None, reason=f"{name} is not installed")


KINDS = [
    pytest.param((LlamaCppEngine, WeightType.F32), id="llama.cpp", marks=installed("llama_cpp")),
    pytest.param((OpenVinoEngine, WeightType.F16), id="OpenVINO", marks=installed("openvino_genai")),
]
DTYPES = {WeightType.F32: torch.float32, WeightType.F16: torch.float16}


@pytest.fixture(scope="module", params=FAMILIES)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    return make_case(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="module", params=KINDS)
def engine(request: pytest.FixtureRequest, case: Case) -> Iterator[Any]:
    kind, weight_type = request.param
    engine = kind(case.loaded, case.file(weight_type), name="tiny", max_rows=3)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def local(case: Case) -> Iterator[LocalEngine]:
    engine = LocalEngine(case.loaded, adapter=case.adapter)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def weight_type(engine: Any) -> WeightType:
    return WeightType.F16 if isinstance(engine, OpenVinoEngine) else WeightType.F32


def test_it_answers_as_the_reference_does(engine: Any, case: Case, weight_type: WeightType) -> None:
    rows, expected = case.rows(), case.expected(DTYPES[weight_type])
    assert require_same_answers(engine, expected, rows) < 0.05


def answered(engine: Any, options: GenerationOptions) -> list[Answer]:
    answers: dict[int, Answer] = {}
    for batch in engine.batches(PROMPTS):
        answers |= zip(batch, engine.generate([PROMPTS[index] for index in batch], options), strict=True)
    return [answers[index] for index in range(len(PROMPTS))]


def told(answers: list[Answer]) -> list[tuple[Any, ...]]:
    return [(one.example_id, one.text, one.finish_reason, one.usage.completion_tokens) for one in answers]


@pytest.mark.parametrize("form", [None, FORM], ids=["text", "json"])
def test_it_writes_the_same_texts(engine: Any, local: LocalEngine, form: JsonForm | None) -> None:
    options = GenerationOptions(max_new_tokens=24, form=form)
    ours, theirs = answered(engine, options), answered(local, options)
    if form is not None:
        assert all(json.loads(one.text) for one in ours)
    same = sum(one == other for one, other in zip(told(ours), told(theirs), strict=True))
    assert same >= len(PROMPTS) - isinstance(engine, OpenVinoEngine), (told(ours), told(theirs))
    assert [one.usage.prompt_tokens for one in ours] == [one.usage.prompt_tokens for one in theirs]


def test_it_chooses_the_same_labels(engine: Any, local: LocalEngine) -> None:
    for ours, theirs in zip(engine.choose(PROMPTS, LABELS), local.choose(PROMPTS, LABELS), strict=True):
        assert ours.choice_log_likelihoods == pytest.approx(theirs.choice_log_likelihoods, abs=0.05)
        assert ours.choice_log_likelihoods is not None
        assert ours.text == theirs.text
        assert ours.usage.completion_tokens == theirs.usage.completion_tokens


def test_one_choice_among_two_that_differ_at_once(engine: Any, local: LocalEngine) -> None:
    two = ("refund", "lost card")
    assert [one.text for one in engine.choose(PROMPTS, two)] == [one.text for one in local.choose(PROMPTS, two)]
    own = [two if place % 2 else LABELS for place in range(len(PROMPTS))]
    assert [one.text for one in engine.choose_each(PROMPTS, own)] == [
        one.text for one in local.choose_each(PROMPTS, own)
    ]


def test_a_prompt_that_leaves_no_room_is_refused(engine: Any) -> None:
    with pytest.raises(DataError, match="leaves no room"):
        engine.generate([prompt("Where is my parcel? " * 400)], GenerationOptions(max_new_tokens=4))


@pytest.mark.parametrize("kind", KINDS)
def test_the_base_model_in_place_of_the_tuned_one_is_refused(kind: Any, case: Case) -> None:
    make, weight_type = kind
    base = make(case.loaded, case.file(weight_type, is_tuned=False), name="tiny")
    try:
        with pytest.raises(IntegrityError, match="what was trained is left out"):
            require_same_answers(base, case.expected(DTYPES[weight_type]), case.rows())
        untuned = case.expected(DTYPES[weight_type], is_tuned=False)
        assert require_same_answers(base, untuned, case.rows()) < 0.05
    finally:
        base.close()


@installed("openvino_genai")
def test_openvino_leaves_out_an_adapter_beside_a_gguf_file_and_is_refused(case: Case) -> None:
    """What GenAI does of its own accord: the reason why adapters are merged, and why the check is there."""
    import openvino_genai as genai

    class Beside(OpenVinoEngine):
        def _with_pipeline(self) -> Any:
            if self._pipeline is None:
                adapter = genai.Adapter(str(case.adapter / "adapter_model.safetensors"))
                scheduler = genai.SchedulerConfig()
                properties = {**self._properties, "adapters": genai.AdapterConfig(adapter, 2.0)}
                self._pipeline = genai.ContinuousBatchingPipeline(str(self._file), scheduler, "CPU", properties)
            return self._pipeline

    engine = Beside(case.loaded, case.file(WeightType.F16, is_tuned=False), name="tiny")
    try:
        tokens = engine.written([row.prompt for row in case.rows()], [4] * len(PROMPTS))
        untuned = [case.greedy(row.prompt, 4, is_tuned=False) for row in case.rows()]
        assert [one[: len(other)] for one, other in zip(untuned, tokens, strict=True)] == tokens, (
            "it takes adapters now"
        )
        with pytest.raises(IntegrityError, match="what was trained is left out"):
            require_same_answers(engine, case.expected(torch.float16), case.rows())
    finally:
        engine.close()


@installed("openvino_genai")
def test_openvino_opens_no_connection(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes with a package for telemetry, which only its converter uses."""
    tried: list[object] = []
    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, lambda self, *where: tried.append(where))
    engine = OpenVinoEngine(case.loaded, case.file(WeightType.F16), name="tiny")
    engine.generate(PROMPTS, GenerationOptions(max_new_tokens=2))
    engine.choose(PROMPTS, LABELS)
    engine.close()
    assert tried == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_is_none_is_refused_in_words(kind: Any, case: Case, tmp_path: Path) -> None:
    (tmp_path / "bad.gguf").write_bytes(b"GGUF but not really")
    with pytest.raises(ModelError, match="cannot read this GGUF file"):
        kind[0](case.loaded, tmp_path / "bad.gguf", name="tiny")


@pytest.mark.parametrize("kind", KINDS)
def test_a_closed_engine_answers_no_more_and_leaves_nothing_behind(kind: Any, case: Case) -> None:
    make, weight_type = kind
    file = case.file(weight_type)
    before = set(file.parent.iterdir())
    engine = make(case.loaded, file, name="tiny")
    engine.generate(PROMPTS[:1], GenerationOptions(max_new_tokens=2))
    engine.close()
    with pytest.raises(ConfigError, match="closed"):
        engine.generate(PROMPTS[:1], GenerationOptions(max_new_tokens=2))
    engine.close()
    assert set(file.parent.iterdir()) <= before


@installed("openvino_genai")
@pytest.mark.parametrize("num_shared", [33, 40, 48, 63, 64, 70])
def test_a_prompt_that_goes_on_from_another_one_is_answered_as_by_itself(case: Case, num_shared: int) -> None:
    """What was kept of the first must not stand for what it never was: blocks of keys that were filled in part."""
    tokens = [7 + place * 11 % 80 for place in range(120)]
    begun, longer = tokens[:num_shared], tokens[: num_shared + 9]
    engine = OpenVinoEngine(case.loaded, case.file(WeightType.F16), name="tuned")
    try:
        first = engine.written([begun], [6])[0]
        goes_on = [*begun, *first, *longer[num_shared:]]  # a conversation: the answer, and what is said next
        for row in (longer, goes_on, begun):
            [written] = engine.written([row], [6])
            wanted = case.greedy(row, len(written))
            assert written == wanted, (num_shared, len(row))
    finally:
        engine.close()
