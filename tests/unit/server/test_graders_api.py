"""Graders over HTTP."""

import json
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from openai.types.fine_tuning.alpha import GraderRunResponse
from pydantic import TypeAdapter

from databases import fresh_store
from fettle.scoring.openai_grader import GraderErrors, Reply, TokenUsage
from fettle.scoring.sandbox.code_runner import CodeRunner
from fettle.server.app import create_app
from fettle.server.context import Context, ServerSettings
from fettle.store.database import Store
from fettle.store.keys import create_key
from grading import NoRunner, ScriptedModel, string_check
from sandboxes import sandbox

PYTHON = {
    "type": "python",
    "source": "def grade(sample, item):\n    return len(sample['output_text']) / item['length']",
}
JUDGE = {
    "type": "score_model",
    "name": "j",
    "model": "judge",
    "input": [{"role": "user", "content": "{{sample.output_text}}"}],
}


class Api:
    """A client of a server in this process."""

    def __init__(self, store: Store, code_runner: CodeRunner, *replies: Reply) -> None:
        context = Context(
            store=store,
            settings=ServerSettings(),
            code_runner=code_runner,
            sampler_of=lambda _owner: ScriptedModel(*replies),
        )
        self.client = TestClient(create_app(context), raise_server_exceptions=False)
        self.headers = {"authorization": f"Bearer {create_key(store, 'test')[0]}"}

    def post(self, what: str, **body: Any) -> tuple[int, dict[str, Any]]:
        answer = self.client.post(f"/v1/fine_tuning/alpha/graders/{what}", json=body, headers=self.headers)
        return answer.status_code, answer.json()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with fresh_store(tmp_path) as opened:
        yield opened


@pytest.fixture
def api(store: Store) -> Api:
    return Api(store, NoRunner())


def test_a_valid_grader_comes_back_as_it_was_sent(api: Api) -> None:
    for grader in (string_check(), string_check() | {"pass_threshold": 0.5}, JUDGE):
        assert api.post("validate", grader=grader) == (200, {"grader": grader})


@pytest.mark.parametrize("what", ["validate", "run"])
@pytest.mark.parametrize(
    ("grader", "param", "code"),
    [
        (string_check(operation="regex"), "grader.operation", "invalid_value"),
        (string_check() | {"input": 5}, "grader.input", "invalid_type"),
        (string_check() | {"inputs": "x"}, "grader.inputs", "unknown_parameter"),
        ({"type": "string_check", "name": "s"}, "grader.input", "missing_required_parameter"),
        ({"name": "s"}, "grader.type", "missing_required_parameter"),
        (JUDGE | {"sampling_params": {"temperature": 2.5}}, "grader.sampling_params.temperature", "decimal_above_max_value"),
        (JUDGE | {"sampling_params": {"temperature": "1"}}, "grader.sampling_params.temperature", "invalid_type"),
        (JUDGE | {"model": "gpt-9"}, "grader", "model_not_found"),
        ({"type": "python", "source": "def grade("}, "grader.source", "invalid_value"),
        ("text", "grader", "invalid_type"),
    ],
)  # fmt: skip
def test_what_is_no_grader_is_a_400_that_names_the_field(
    api: Api, what: str, grader: Any, param: str, code: str
) -> None:
    body = {"grader": grader} if what == "validate" else {"grader": grader, "model_sample": ""}
    status, answer = api.post(what, **body)
    assert status == 400
    assert set(answer["error"]) == {"message", "type", "param", "code"}
    assert (answer["error"]["param"], answer["error"]["code"]) == (param, code)
    assert answer["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize("what", ["validate", "run"])
def test_python_without_a_sandbox_is_a_400_with_the_reason(api: Api, what: str) -> None:
    body = {"grader": PYTHON} if what == "validate" else {"grader": PYTHON, "model_sample": ""}
    status, answer = api.post(what, **body)
    assert status == 400
    assert "there is no bubblewrap in this test" in answer["error"]["message"]


def test_a_run_gives_the_reward_and_all_fourteen_flags(api: Api) -> None:
    status, answer = api.post("run", grader=string_check(), item={"answer": "Rome"}, model_sample="Rome")
    assert status == 200
    assert answer["metadata"].pop("execution_time") >= 0
    assert answer == {
        "reward": 1.0,
        "metadata": {
            "name": "check",
            "type": "string_check",
            "errors": {field.name: field.default for field in fields(GraderErrors)},
            "scores": {"check": 1.0},
            "token_usage": None,
            "sampled_model_name": None,
        },
        "sub_rewards": {},
        "model_grader_token_usage_per_model": {},
    }
    assert len(answer["metadata"]["errors"]) == 14


def test_the_official_client_reads_the_answer(api: Api) -> None:
    _, answer = api.post("run", grader=string_check(), item={"answer": "Rome"}, model_sample="Rome")
    read = TypeAdapter(GraderRunResponse).validate_python(answer, strict=True)
    assert read.metadata.errors.model_extra == {}
    assert read.reward == 1.0


def test_a_grader_that_fails_is_a_200_with_reward_0_and_its_flag(api: Api) -> None:
    status, answer = api.post("run", grader=string_check(), model_sample="Rome")
    assert (status, answer["reward"]) == (200, 0.0)
    flags = answer["metadata"]["errors"]
    assert [name for name, value in flags.items() if value] == ["invalid_variable_error"]


def test_a_multi_shows_the_rewards_of_its_graders(api: Api) -> None:
    multi = {
        "type": "multi",
        "graders": {"a": string_check(), "b": string_check(operation="ilike")},
        "calculate_output": "a + b / 2",
    }
    _, answer = api.post("run", grader=multi, item={"answer": "Rome"}, model_sample="rome")
    assert (answer["reward"], answer["sub_rewards"]) == (0.5, {"a": 0.0, "b": 1.0})
    assert answer["metadata"]["scores"] == {"a": 0.0, "b": 1.0}


def test_a_grading_model_is_told_with_its_tokens(store: Store) -> None:
    reply = Reply(
        text=json.dumps({"steps": [], "result": 0.7}), usage=TokenUsage(prompt_tokens=12, completion_tokens=5)
    )
    _, answer = Api(store, NoRunner(), reply).post("run", grader=JUDGE, model_sample="hello")
    assert answer["reward"] == 0.7
    assert (answer["metadata"]["token_usage"], answer["metadata"]["sampled_model_name"]) == (17, "judge")
    assert answer["model_grader_token_usage_per_model"]["judge"]["total_tokens"] == 17


def test_python_runs_in_the_sandbox(store: Store) -> None:
    api = Api(store, sandbox())
    assert api.post("validate", grader=PYTHON) == (200, {"grader": PYTHON})
    _, good = api.post("run", grader=PYTHON, item={"length": 8}, model_sample="Rome")
    assert (good["reward"], good["metadata"]["name"]) == (0.5, "python")
    status, bad = api.post("run", grader=PYTHON, item={"length": 0}, model_sample="Rome")
    assert (status, bad["reward"]) == (200, 0.0)
    assert bad["metadata"]["errors"]["python_grader_runtime_error"] is True
    assert bad["metadata"]["errors"]["python_grader_runtime_error_details"].endswith(
        "ZeroDivisionError: division by zero"
    )


@pytest.mark.parametrize(
    ("raw", "param"),
    [
        (b"", None),
        (b"[]", None),
        (b"{", None),
        (b'{"model_sample": "a"}', "grader"),
        (b'{"grader": %s}', "model_sample"),
        (b'{"grader": %s, "model_sample": 5}', "model_sample"),
        (b'{"grader": %s, "model_sample": "\\ud800"}', "model_sample"),
        (b'{"grader": %s, "model_sample": "", "item": []}', "item"),
        (b'{"grader": %s, "model_sample": "", "item": {"a": NaN}}', "item"),
        (b'{"grader": %s, "model_sample": "", "item": {"a": "\\udfff"}}', "item"),
        (b'{"grader": %s, "model_sample": "", "item": {"a": ' + b"[" * 900 + b"]" * 900 + b"}}", "item"),
        (b'{"grader": %s, "model_sample": "", "items": {}}', "items"),
    ],
)  # fmt: skip
def test_a_body_that_is_none_is_a_400(api: Api, raw: bytes, param: str | None) -> None:
    body = raw.replace(b"%s", json.dumps(string_check()).encode())
    answer = api.client.post(
        "/v1/fine_tuning/alpha/graders/run", content=body, headers=api.headers | {"content-type": "application/json"}
    )
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


def test_without_a_key_nothing_is_graded(api: Api) -> None:
    answer = api.client.post("/v1/fine_tuning/alpha/graders/validate", json={"grader": string_check()})
    assert answer.status_code == 401


def test_a_reinforcement_job_with_a_wrong_grader_names_the_place(api: Api) -> None:
    method = {"type": "reinforcement", "reinforcement": {"grader": string_check(operation="regex")}}
    body = {"model": "m", "training_file": "file-x", "method": method}
    answer = api.client.post("/v1/fine_tuning/jobs", json=body, headers=api.headers)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "method.reinforcement.grader.operation"
