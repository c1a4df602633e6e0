"""Our own description of the API against what is answered: schemathesis draws requests that fit it, and others that do not."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from in_process import InProcess, application, num_cases
from schemathesis.checks import CHECKS
from training_files import training_content

_CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: Path) -> Iterator[InProcess]:
    with application(tmp_path_factory.mktemp("described") / "home", tiny_model_folder) as running:
        yield running


@pytest.fixture(scope="module")
def known(served: InProcess) -> dict[str, str]:
    """Values of path parameters that mean something."""
    http = TestClient(served.app, base_url="http://test/v1/", headers=served.headers)
    file = http.post("files", data={"purpose": "fine-tune"}, files={"file": ("a.jsonl", training_content())}).json()
    job = http.post("fine_tuning/jobs", json={"model": "tiny-chat", "training_file": file["id"]}).json()
    about = {"filename": "a", "bytes": 5, "mime_type": "text/plain", "purpose": "fine-tune"}
    upload = http.post("uploads", json=about).json()
    store = http.post("vector_stores", json={"file_ids": [file["id"]]}).json()
    batch = http.post(f"vector_stores/{store['id']}/file_batches", json={"file_ids": [file["id"]]}).json()
    ids = {"file_id": file["id"], "job_id": job["id"], "upload_id": upload["id"], "name": "tiny-chat"}
    return ids | {"vector_store_id": store["id"], "batch_id": batch["id"]}


@pytest.fixture(scope="module")
def api(served: InProcess, known: dict[str, str]) -> Any:
    schema = schemathesis.openapi.from_asgi("/openapi.json", served.app)

    @schema.hook
    def map_path_parameters(context: Any, path_parameters: dict[str, Any] | None) -> dict[str, Any] | None:
        if path_parameters is None or context.operation.method == "delete":  # what is known shall stay
            return path_parameters
        return {
            name: known[name] if name in known and _is_every_second(value) else value
            for name, value in path_parameters.items()
        }

    @schema.hook
    def map_body(context: Any, body: Any) -> Any:
        if isinstance(body, dict) and "model" in body and _is_every_second(body):
            body = body | {"model": "tiny-chat"}
            if "messages" in body and not {"max_tokens", "max_completion_tokens"} & set(body):
                body["max_tokens"] = 3
            if context.operation.path.endswith("/responses"):
                most = body.get("max_output_tokens")
                if most is None or (isinstance(most, int) and most > 3):  # long answers take their time
                    body["max_output_tokens"] = 3
        return body

    return schema


def test_no_server_error_and_no_answer_that_is_not_described(
    api: Any, served: InProcess, subtests: pytest.Subtests
) -> None:
    operations = [found.ok() for found in api.get_all_operations()]
    cases = -(-num_cases(300, full=2_000) // len(operations))
    for operation in operations:
        with subtests.test(operation.label):
            _try(operation, served, cases)


def _try(operation: schemathesis.APIOperation, served: InProcess, cases: int) -> None:
    drawn = st.one_of(operation.as_strategy(generation_mode=mode) for mode in schemathesis.GenerationMode)

    @given(case=drawn)
    @settings(max_examples=cases, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    def holds(case: schemathesis.Case) -> None:
        case.call_and_validate(headers=served.headers, checks=CHECKS.get_by_names(_CHECKS))

    holds()


def _is_every_second(value: object) -> bool:
    return zlib.crc32(repr(value).encode("utf-8", "replace")) % 2 == 0
