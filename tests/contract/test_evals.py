"""Section 13 of the contract: evals, their runs, and what became of each row."""

from __future__ import annotations

import json
import time
from typing import Any

import httpx2
import openai
import pytest
from api_server import RunningServer

_SECONDS_FOR_A_RUN = 120
ITEM_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"question": {"type": "string"}, "answer": {"type": "string"}},
    "required": ["question", "answer"],
}
SAME: dict[str, Any] = {
    "type": "string_check", "name": "same", "operation": "eq",
    "input": "{{ sample.output_text }}", "reference": "{{ item.answer }}",
}  # fmt: skip
SIMILAR: dict[str, Any] = {
    "type": "text_similarity", "name": "similar", "evaluation_metric": "fuzzy_match", "pass_threshold": 0.7,
    "input": "{{ sample.output_text }}", "reference": "{{ item.answer }}",
}  # fmt: skip
ROWS: list[dict[str, Any]] = [
    {"item": {"question": "6 x 7?", "answer": "42"}, "sample": {"output_text": "42"}},
    {"item": {"question": "Sky?", "answer": "It is blue."}, "sample": {"output_text": "It is blue!"}},
    {"item": {"question": "Grass?", "answer": "green"}, "sample": {"output_text": "no idea"}},
]


def new_eval(client: openai.OpenAI, *criteria: dict[str, Any], **more: Any) -> Any:
    config = {"type": "custom", "item_schema": ITEM_SCHEMA, "include_sample_schema": True}
    return client.evals.create(
        data_source_config=config,  # type: ignore[arg-type]
        testing_criteria=list(criteria or (SAME, SIMILAR)),  # type: ignore[arg-type]
        **more,
    )


def content(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {"type": "file_content", "content": rows}


def finished(client: openai.OpenAI, run: Any) -> Any:
    deadline = time.monotonic() + _SECONDS_FOR_A_RUN
    while run.status in ("queued", "in_progress"):
        assert time.monotonic() < deadline, run
        time.sleep(0.1)
        run = client.evals.runs.retrieve(run.id, eval_id=run.eval_id)
    return run


def test_a_run_over_answers_that_are_there(client: openai.OpenAI) -> None:
    made = new_eval(client, name="short answers", metadata={"team": "support"})
    run = client.evals.runs.create(made.id, name="first", data_source={"type": "jsonl", "source": content(ROWS)})  # type: ignore[arg-type]
    run = finished(client, run)
    assert (run.status, run.name, run.error) == ("completed", "first", None)
    assert run.result_counts.model_dump() == {"total": 3, "errored": 0, "failed": 2, "passed": 1}
    assert {part.testing_criteria: (part.passed, part.failed) for part in run.per_testing_criteria_results} == {
        "same": (1, 2),
        "similar": (2, 1),
    }
    items = client.evals.runs.output_items.list(run.id, eval_id=made.id).data
    assert [item.status for item in items] == ["pass", "fail", "fail"]
    assert [item.datasource_item_id for item in items] == [0, 1, 2]
    assert [(result.name, result.passed) for result in items[1].results] == [("same", False), ("similar", True)]
    assert items[0].datasource_item == ROWS[0]["item"]
    assert items[0].sample.output[0].content == "42"
    failed = client.evals.runs.output_items.list(run.id, eval_id=made.id, status="fail").data
    assert [item.id for item in failed] == [items[1].id, items[2].id]
    assert (
        client.evals.runs.output_items.retrieve(items[0].id, eval_id=made.id, run_id=run.id).to_dict()
        == items[0].to_dict()
    )


def test_a_run_in_which_a_model_answers_rows_of_a_file(client: openai.OpenAI, server: RunningServer) -> None:
    rows = "\r\n".join(json.dumps({"item": row["item"]}) for row in ROWS * 7)
    file = client.files.create(file=("rows.jsonl", rows.encode()), purpose="evals")
    made = new_eval(client, SAME)
    run = client.evals.runs.create(
        made.id,
        data_source={  # type: ignore[arg-type]
            "type": "completions",
            "model": server.model,
            "source": {"type": "file_id", "id": file.id},
            "input_messages": {
                "type": "template",
                "template": [
                    {"role": "developer", "content": "Answer."},
                    {"role": "user", "content": {"type": "input_text", "text": "{{ item.question }}"}},
                ],
            },
            "sampling_params": {"max_completion_tokens": 5, "temperature": 0, "seed": 3},
        },
    )
    run = finished(client, run)
    assert (run.status, run.model) == ("completed", server.model)
    assert run.result_counts.total == 21
    assert run.result_counts.passed + run.result_counts.failed == 21
    [usage] = run.per_model_usage
    assert (usage.model_name, usage.invocation_count) == (server.model, 21)
    assert 0 < usage.completion_tokens <= 21 * 5
    items = list(client.evals.runs.output_items.list(run.id, eval_id=made.id, limit=4))
    assert [item.datasource_item_id for item in items] == list(range(21))
    sample = items[0].sample
    assert [(message.role, message.content) for message in sample.input] == [
        ("developer", "Answer."),
        ("user", "6 x 7?"),
    ]
    assert (sample.temperature, sample.seed, sample.max_completion_tokens) == (0, 3, 5)
    assert len({item.sample.output[0].content for item in items[::3]}) == 1, "greedy: one question, one answer"


def test_messages_may_lie_in_the_item_and_answers_be_forced_into_a_schema(
    client: openai.OpenAI, server: RunningServer
) -> None:
    config = {"type": "custom", "item_schema": {"type": "object"}}
    code = "import json\ndef grade(sample, item):\n    return float(len(json.loads(sample['output_text'])) == 1)"
    made = client.evals.create(
        data_source_config=config,  # type: ignore[arg-type]
        testing_criteria=[{"type": "python", "name": "one key", "source": code, "pass_threshold": 1}],
    )
    schema = {
        "type": "object", "properties": {"queue": {"enum": ["refund", "delivery"]}},
        "required": ["queue"], "additionalProperties": False,
    }  # fmt: skip
    rows = [
        {"item": {"asked": [{"role": "user", "content": "Where is it?"}]}},
        {"item": {"asked": [{"role": "user", "content": "word " * 2000}]}},
        {"item": {}},
    ]
    run = client.evals.runs.create(
        made.id,
        data_source={  # type: ignore[arg-type]
            "type": "completions",
            "model": server.model,
            "source": content(rows),
            "input_messages": {"type": "item_reference", "item_reference": "item.asked"},
            "sampling_params": {
                "response_format": {"type": "json_schema", "json_schema": {"name": "queue", "schema": schema}}
            },
        },
    )
    run = finished(client, run)
    assert run.status == "completed", run.error
    assert run.result_counts.model_dump() == {"total": 3, "errored": 2, "failed": 0, "passed": 1}
    items = client.evals.runs.output_items.list(run.id, eval_id=made.id).data
    assert [item.status for item in items] == ["pass", "error", "error"]
    assert items[1].results == []
    assert "context" in items[1].sample.error.message
    assert "item.asked is not there" in items[2].sample.error.message


def test_a_model_that_grades(client: openai.OpenAI, server: RunningServer) -> None:
    criterion = {
        "type": "label_model", "name": "kind", "model": server.model, "labels": ["a", "b"], "passing_labels": ["a", "b"],
        "input": [{"role": "user", "content": "Which? {{ sample.output_text }}"}],
    }  # fmt: skip
    made = new_eval(client, criterion)
    run = finished(client, client.evals.runs.create(made.id, data_source={"type": "jsonl", "source": content(ROWS)}))  # type: ignore[arg-type]
    assert run.status == "completed"
    counts = run.result_counts
    assert counts.failed == 0, "every label passes"
    assert counts.passed + counts.errored == 3
    assert [usage.model_name for usage in run.per_model_usage] == [server.model]


def test_a_file_with_a_row_that_does_not_fit_fails_the_run_and_says_where(client: openai.OpenAI) -> None:
    lines = [json.dumps(row) for row in ROWS] + [
        '{"item": {"question": 1, "answer": "x"}, "sample": {"output_text": ""}}'
    ]
    file = client.files.create(file=("rows.jsonl", "\n".join(lines).encode()), purpose="evals")
    made = new_eval(client)
    source = {"type": "jsonl", "source": {"type": "file_id", "id": file.id}}
    run = finished(client, client.evals.runs.create(made.id, data_source=source))  # type: ignore[arg-type]
    assert (run.status, run.error.code) == ("failed", "invalid_data")
    assert "line 4" in run.error.message
    assert "item.question" in run.error.message
    assert client.evals.runs.output_items.list(run.id, eval_id=made.id).data == []


def test_evals_are_listed_changed_and_deleted(idle_client: openai.OpenAI) -> None:
    assert idle_client.evals.list().data == []
    ids = [new_eval(idle_client, name=f"eval {number}").id for number in range(5)]
    assert [found.id for found in idle_client.evals.list(limit=2)] == ids
    assert [found.id for found in idle_client.evals.list(limit=2, order="desc")] == ids[::-1]
    changed = idle_client.evals.update(ids[0], name="another", metadata={"a": "b"})
    assert (changed.name, changed.metadata) == ("another", {"a": "b"})
    assert idle_client.evals.retrieve(ids[0]).to_dict() == changed.to_dict()
    config = changed.data_source_config.model_dump(by_alias=True)
    assert config["schema"]["properties"]["item"] == ITEM_SCHEMA
    run = idle_client.evals.runs.create(ids[0], data_source={"type": "jsonl", "source": content(ROWS)})  # type: ignore[arg-type]
    assert idle_client.evals.delete(ids[0]).deleted
    for call in (idle_client.evals.retrieve, idle_client.evals.delete):
        with pytest.raises(openai.NotFoundError):
            call(ids[0])
    with pytest.raises(openai.NotFoundError):
        idle_client.evals.runs.retrieve(run.id, eval_id=ids[0])


def test_runs_are_listed_cancelled_and_deleted(idle_client: openai.OpenAI) -> None:
    made = new_eval(idle_client)
    runs = [
        idle_client.evals.runs.create(made.id, data_source={"type": "jsonl", "source": content(ROWS)})  # type: ignore[arg-type]
        for _ in range(3)
    ]
    assert [run.status for run in runs] == ["queued"] * 3
    assert idle_client.evals.runs.cancel(runs[0].id, eval_id=made.id).status == "canceled"
    assert [run.id for run in idle_client.evals.runs.list(made.id, status="canceled")] == [runs[0].id]
    assert [run.id for run in idle_client.evals.runs.list(made.id, limit=1)] == [run.id for run in runs]
    assert idle_client.evals.runs.delete(runs[1].id, eval_id=made.id).deleted
    assert [run.id for run in idle_client.evals.runs.list(made.id, order="desc")] == [runs[2].id, runs[0].id]
    assert idle_client.fine_tuning.jobs.list().data == [], "runs are no fine-tuning jobs"
    with pytest.raises(openai.NotFoundError):
        idle_client.fine_tuning.jobs.retrieve(runs[2].id)


def test_a_run_that_is_over_is_not_cancelled(client: openai.OpenAI) -> None:
    made = new_eval(client)
    run = finished(client, client.evals.runs.create(made.id, data_source={"type": "jsonl", "source": content(ROWS)}))  # type: ignore[arg-type]
    with pytest.raises(openai.BadRequestError, match="completed"):
        client.evals.runs.cancel(run.id, eval_id=made.id)


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"data_source_config": {"type": "logs"}}, "data_source_config.type"),
        ({"data_source_config": {"type": "stored_completions", "metadata": {}}}, "data_source_config.type"),
        ({"data_source_config": {"type": "custom"}}, "data_source_config.item_schema"),
        ({"data_source_config": {"type": "custom", "item_schema": {"type": 3}}}, "data_source_config.item_schema"),
        (
            {"data_source_config": {"type": "custom", "item_schema": {"properties": {"a": {"pattern": "(a+)+$"}}}}},
            "data_source_config.item_schema.properties.a",
        ),
        ({"testing_criteria": []}, "testing_criteria"),
        ({"testing_criteria": [SAME | {"operation": "same"}]}, "testing_criteria[0].operation"),
        ({"testing_criteria": [SAME, SIMILAR | {"pass_threshold": None}]}, "testing_criteria[1].pass_threshold"),
        ({"testing_criteria": [{"type": "multi", "graders": {"a": SAME}, "calculate_output": "a"}]}, None),
        ({"testing_criteria": [{"type": "python", "source": "def grade(", "name": "x"}]}, "testing_criteria[0].source"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_evals_that_cannot_be_are_refused(raw: httpx2.Client, change: dict[str, Any], param: str | None) -> None:
    config = {"type": "custom", "item_schema": ITEM_SCHEMA}
    answer = raw.post("/evals", json={"data_source_config": config, "testing_criteria": [SAME]} | change)
    assert answer.status_code == 400, answer.text
    assert param is None or answer.json()["error"]["param"] == param


@pytest.mark.parametrize(
    ("source", "param"),
    [
        ({"type": "responses", "source": {"type": "responses"}}, "data_source.type"),
        ({"type": "jsonl", "source": {"type": "stored_completions"}}, "data_source.source.type"),
        ({"type": "jsonl", "source": {"type": "file_id", "id": "file-none"}}, "data_source.source.id"),
        ({"type": "jsonl", "source": {"type": "file_content", "content": []}}, "data_source.source.content"),
        ({"type": "jsonl", "source": content(ROWS), "model": "tiny-chat"}, "data_source.model"),
        ({"type": "jsonl", "source": content([{"item": ROWS[0]["item"]}])}, None),
        ({"type": "jsonl", "source": content([{"item": {"question": "?"}}])}, None),
        ({"type": "completions", "source": content(ROWS)}, "data_source.model"),
        ({"type": "completions", "source": content(ROWS), "model": "tiny-chat"}, "data_source.input_messages"),
        (
            {
                "type": "completions", "source": content(ROWS), "model": "tiny-chat",
                "input_messages": {"type": "template", "template": [{"role": "user", "content": "{{ sample.x }}"}]},
            },
            "data_source.input_messages.template",
        ),
        (
            {
                "type": "completions", "source": content(ROWS), "model": "tiny-chat",
                "input_messages": {"type": "item_reference", "item_reference": "item.a}} {{item.b"},
            },
            "data_source.input_messages.item_reference",
        ),
        (
            {
                "type": "completions", "source": content(ROWS), "model": "tiny-chat",
                "input_messages": {"type": "item_reference", "item_reference": "item.a"},
                "sampling_params": {"tools": []},
            },
            "data_source.sampling_params.tools",
        ),
    ],
)  # fmt: skip
def test_runs_that_cannot_be_are_refused(raw: httpx2.Client, source: dict[str, Any], param: str | None) -> None:
    config = {"type": "custom", "item_schema": ITEM_SCHEMA}
    made = raw.post("/evals", json={"data_source_config": config, "testing_criteria": [SAME]}).json()
    answer = raw.post(f"/evals/{made['id']}/runs", json={"data_source": source})
    assert answer.status_code == 400, answer.text
    assert param is None or answer.json()["error"]["param"] == param
    assert raw.get(f"/evals/{made['id']}/runs").json()["data"] == []


def test_an_unknown_model_is_404(raw: httpx2.Client) -> None:
    config = {"type": "custom", "item_schema": ITEM_SCHEMA}
    made = raw.post("/evals", json={"data_source_config": config, "testing_criteria": [SAME]}).json()
    messages = {"type": "template", "template": [{"role": "user", "content": "{{ item.question }}"}]}
    source = {"type": "completions", "source": content(ROWS), "model": "gpt-4o", "input_messages": messages}
    answer = raw.post(f"/evals/{made['id']}/runs", json={"data_source": source})
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")


@pytest.mark.parametrize("path", ["", "/runs", "/runs/evalrun_x", "/runs/evalrun_x/output_items"])
def test_another_projects_evals_are_not_there(idle_client: openai.OpenAI, raw: httpx2.Client, path: str) -> None:
    made = new_eval(idle_client)
    assert raw.get(f"/evals/{made.id}{path}").status_code == 404
