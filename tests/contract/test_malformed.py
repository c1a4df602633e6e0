"""Thousands of files and bodies that are not as they should be: every one is taken or refused cleanly, none does harm."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from fastapi.testclient import TestClient
from in_process import InProcess, application, num_cases
from spoiling import as_json, spoiled, spoiled_bytes
from training_files import chat_row, json_lines, training_content

from fettle.jobs.training_rows import BadTrainingFileError, FileRole, read_training_rows

_SHARDS = 10
_PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}}
_FUNCTION = {"name": "seats", "description": "Free seats", "parameters": _PARAMETERS}
_TOOLS = [{"type": "function", "function": _FUNCTION}]
_CALL = {"id": "c1", "type": "function", "function": {"name": "seats", "arguments": "{}"}}
_ROWS: list[dict[str, Any]] = [
    *map(chat_row, range(9)),
    {
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "a"}]},
            {"role": "assistant", "content": "b", "weight": 1},
        ]
    },
    {
        "messages": [
            {"role": "developer", "content": "c"},
            {"role": "user", "content": "Seats?", "name": "ann"},
            {"role": "assistant", "content": None, "tool_calls": [_CALL]},
            {"role": "tool", "tool_call_id": "c1", "content": "2"},
            {"role": "assistant", "content": "Two."},
        ],
        "tools": _TOOLS,
        "parallel_tool_calls": False,
    },
]


@pytest.mark.parametrize("shard", range(_SHARDS))
def test_a_malformed_training_file_is_read_or_refused(tmp_path: Path, shard: int) -> None:
    file = tmp_path / "rows.jsonl"
    for case in range(num_cases(300, full=2_500) // _SHARDS):
        random = Random(f"{shard}/{case}")
        rows = [spoiled(row, random) if random.random() < 0.1 else row for row in _ROWS]
        lines = b"".join(as_json(row) + b"\n" for row in rows)
        file.write_bytes(spoiled_bytes(lines, random) if random.random() < 0.5 else lines)
        refusal = refused(file)
        if refusal is not None:
            assert refusal.code in ("invalid_training_file", "invalid_n_examples")
            assert 10 < len(refusal.describe().encode()) < 1_000, refusal


def refused(file: Path) -> BadTrainingFileError | None:
    """How a file is refused; None: it is taken."""
    try:
        read = read_training_rows(file, FileRole.TRAINING, name="file-x", least=10)
    except BadTrainingFileError as error:
        return error
    assert len(read.examples) >= 10
    return None


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: Path) -> Iterator[InProcess]:
    with application(tmp_path_factory.mktemp("malformed") / "home", tiny_model_folder) as running:
        yield running


@pytest.fixture(scope="module")
def http(served: InProcess) -> TestClient:
    headers = served.headers | {"content-type": "application/json"}
    return TestClient(served.app, base_url="http://test/v1/", headers=headers, raise_server_exceptions=False)


@pytest.fixture(scope="module")
def bodies(served: InProcess) -> dict[str, dict[str, Any]]:
    return valid_bodies(served)


def valid_bodies(served: InProcess) -> dict[str, dict[str, Any]]:
    """A valid body for each route that takes one."""
    sender = TestClient(served.app, base_url="http://test/v1/", headers=served.headers)
    file = sender.post("files", data={"purpose": "fine-tune"}, files={"file": ("a.jsonl", training_content())}).json()
    upload = {"filename": "a", "bytes": 5, "mime_type": "text/plain", "purpose": "fine-tune"}
    upload_id = sender.post("uploads", json=upload).json()["id"]
    part = sender.post(f"uploads/{upload_id}/parts", files={"data": ("a", b"12345")}).json()
    grader = {
        "type": "string_check",
        "name": "same",
        "input": "{{sample.output_text}}",
        "reference": "{{item.a}}",
        "operation": "eq",
    }
    other = {
        "type": "text_similarity",
        "name": "near",
        "input": "{{sample.output_text}}",
        "reference": "a",
        "evaluation_metric": "bleu",
    }
    multi = {
        "type": "multi",
        "name": "both",
        "graders": {"a": grader, "b": other},
        "calculate_output": "0.5 * a + max(b, 0)",
    }
    parameters = {"n_epochs": 1, "batch_size": "auto", "learning_rate_multiplier": 1.5}
    schema = {
        "type": "object",
        "properties": {"a": {"type": "integer"}},
        "required": ["a"],
        "additionalProperties": False,
    }
    store_id = sender.post("vector_stores", json={"file_ids": [file["id"]]}).json()["id"]
    filters = {
        "type": "and",
        "filters": [
            {"type": "gte", "key": "year", "value": 2025},
            {"type": "or", "filters": [{"type": "in", "key": "lang", "value": ["en", "de"]}]},
        ],
    }
    sizes = {"max_chunk_size_tokens": 200, "chunk_overlap_tokens": 0}
    cut = {"type": "static", "static": sizes}
    return {
        "vector_stores": {
            "name": "handbook",
            "file_ids": [file["id"]],
            "expires_after": {"anchor": "last_active_at", "days": 7},
            "chunking_strategy": cut,
            "metadata": {"a": "b"},
        },
        f"vector_stores/{store_id}/files": {
            "file_id": file["id"],
            "attributes": {"lang": "en", "year": 2026, "open": True, "share": 0.5},
            "chunking_strategy": cut,
        },
        f"vector_stores/{store_id}/file_batches": {"files": [{"file_id": file["id"], "attributes": {"a": "b"}}]},
        f"vector_stores/{store_id}/search": {
            "query": ["refunds", "roads"],
            "filters": filters,
            "max_num_results": 5,
            "ranking_options": {"ranker": "auto", "score_threshold": 0.1},
            "rewrite_query": False,
        },
        "responses": {
            "model": "tiny-chat",
            "input": [{"role": "user", "content": "Seats?"}],
            "tools": [{"type": "file_search", "vector_store_ids": [store_id], "filters": filters}],
            "include": ["file_search_call.results"],
            "max_output_tokens": 3,
        },
        "fine_tuning/jobs": {
            "model": "tiny-chat",
            "training_file": file["id"],
            "validation_file": file["id"],
            "suffix": "s",
            "seed": 1,
            "metadata": {"a": "b"},
            "method": {"type": "supervised", "supervised": {"hyperparameters": parameters}},
        },
        "uploads": upload | {"expires_after": {"anchor": "created_at", "seconds": 3600}},
        f"uploads/{upload_id}/complete": {"part_ids": [part["id"]], "md5": hashlib.md5(b"12345").hexdigest()},
        "fine_tuning/alpha/graders/validate": {"grader": multi},
        "fine_tuning/alpha/graders/run": {"grader": multi, "item": {"a": "b"}, "model_sample": "b"},
        "chat/completions": {
            "model": "tiny-chat",
            "messages": [
                {"role": "system", "content": "Be short."},
                {"role": "user", "content": [{"type": "text", "text": "Seats?"}]},
                {"role": "assistant", "content": None, "tool_calls": [_CALL]},
                {"role": "tool", "tool_call_id": "c1", "content": "2"},
            ],
            "max_completion_tokens": 3,
            "temperature": 0.5,
            "top_p": 0.9,
            "n": 2,
            "stop": ["."],
            "seed": 1,
            "logit_bias": {"5": 1},
            "logprobs": True,
            "top_logprobs": 2,
            "frequency_penalty": 0.1,
            "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}},
            "stream": True,
            "stream_options": {"include_usage": True},
            "user": "ann",
        },
        "chat/completions?": {
            "model": "tiny-chat",
            "messages": [{"role": "user", "content": "Seats?"}],
            "max_tokens": 3,
            "tools": _TOOLS,
            "tool_choice": {"type": "function", "function": {"name": "seats"}},
            "parallel_tool_calls": False,
        },
    }


@pytest.mark.parametrize("shard", range(_SHARDS))
def test_a_malformed_body_is_taken_or_refused(http: TestClient, bodies: dict[str, dict[str, Any]], shard: int) -> None:
    for case in range(num_cases(300, full=2_500) // _SHARDS):
        random = Random(f"{shard}/{case}")
        path = random.choice(list(bodies))
        content = as_json(spoiled(bodies[path], random))
        if random.random() < 0.2:
            content = spoiled_bytes(content, random)
        answer = http.post(path, content=content)
        assert answer.status_code in (200, 400, 404, 413), (path, content, answer.text)
        if answer.status_code != 200:
            error = answer.json()["error"]
            assert set(error) == {"message", "type", "param", "code"}, (path, content, error)
            assert len(answer.content) < 10_000, (path, content)


def test_unspoiled_the_same_files_and_bodies_are_taken(tmp_path: Path, http: TestClient, served: InProcess) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_bytes(json_lines(_ROWS))
    assert len(read_training_rows(file, FileRole.TRAINING, name="file-x", least=10).examples) == len(_ROWS)
    for path, body in valid_bodies(served).items():
        answer = http.post(path, json=body)
        assert answer.status_code == 200, (path, answer.text)
