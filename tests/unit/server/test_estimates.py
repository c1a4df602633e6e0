"""What a job would take, asked before there is one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fettle.errors import BusyError
from fettle.jobs.estimator import EstimateFailedError, Estimator
from fettle.jobs.job_folder import TrainingJob
from fettle.store.database import Store
from fettle.store.models import put_base_model
from serving import Served, served
from tiny_models import save_tiny_model

ROUTE = "/v1/fine_tuning/estimates"


@pytest.fixture
def server(store: Store, tmp_path: Path) -> Iterator[Served]:
    model = save_tiny_model(tmp_path / "tiny", "qwen2")
    with store.writing() as connection:
        put_base_model(connection, "tiny", str(model))
    with served(store) as server:
        yield server


def row(number: int, **other: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": f"message {number}"}, {"role": "assistant", "content": "billing"}]
    return {"messages": messages} | other


def upload(server: Served, rows: list[dict[str, Any]], purpose: str = "fine-tune") -> str:
    content = "".join(json.dumps(one) + "\n" for one in rows).encode()
    answer = server.post("/v1/files", files={"file": ("rows.jsonl", content)}, data={"purpose": purpose})
    assert answer.status_code == 200, answer.text
    return answer.json()["id"]


@pytest.mark.long
def test_an_estimate_says_what_the_job_comes_to_and_creates_none(server: Served) -> None:
    skipped = row(0)
    skipped["messages"][-1]["weight"] = 0
    training = upload(server, [row(number, odd=1) for number in range(11)] + [skipped])
    body = {
        "model": "tiny", "training_file": training, "validation_file": upload(server, [row(50)]),
        "hyperparameters": {"n_epochs": 2}, "price_per_hour": 3.6, "seed": 1,
    }  # fmt: skip
    answer = server.post(ROUTE, json=body)
    assert answer.status_code == 200, answer.text
    said = answer.json()
    rows = said["training_file"]
    assert (rows["num_rows"], rows["num_skipped"], rows["num_truncated"]) == (11, 1, 0)
    assert said["validation_file"]["num_rows"] == 1
    assert said["hyperparameters"] == {"n_epochs": 2, "batch_size": 1, "learning_rate_multiplier": 1.0}
    assert (said["num_steps"], said["trained_tokens"]) == (22, 2 * rows["num_tokens"])
    assert said["seconds"] > 0
    assert said["minutes"] == pytest.approx(said["seconds"] / 60)
    assert said["price"] == pytest.approx(said["seconds"] / 1000)
    assert said["peak_memory_bytes"] > 0
    assert any("unknown key 'odd'" in warning for warning in said["warnings"])
    assert server.get("/v1/fine_tuning/jobs").json()["data"] == []


@pytest.mark.long
def test_what_a_job_would_fail_with_is_refused(server: Served) -> None:
    few = server.post(ROUTE, json={"model": "tiny", "training_file": upload(server, [row(1)])})
    assert few.status_code == 400
    assert few.json()["error"]["code"] == "invalid_n_examples"
    assert few.json()["error"]["param"] == "training_file"
    assert "has 1 example(s), but must have at least 10" in few.json()["error"]["message"]


def test_the_body_is_refused_as_that_of_a_job(server: Served) -> None:
    training = upload(server, [row(number) for number in range(10)])
    graded = upload(server, [row(1)], purpose="evals")
    wrong = {
        "model_not_found": {"model": "nothing"},
        "unknown_parameter": {"epochs": 3},
        "decimal_below_min_value": {"price_per_hour": -1.0},
        "unsupported_value": {"method": {"type": "dpo"}},
        "invalid_value": {"training_file": graded},
    }
    for code, changed in wrong.items():
        body = {"model": "tiny", "training_file": training} | changed
        refused = server.post(ROUTE, json=body)
        assert refused.status_code in (400, 404), refused.text
        assert refused.json()["error"]["code"] == code
    assert server.client.post(ROUTE, json={}).status_code == 401


def test_one_is_estimated_at_a_time_and_a_cancelled_one_makes_room(tmp_path: Path) -> None:
    job = TrainingJob(training_file=tmp_path / "none.jsonl")

    async def ask_twice() -> None:
        estimator = Estimator()
        first = asyncio.ensure_future(estimator.estimate(job))
        await asyncio.sleep(0)  # it has begun
        with pytest.raises(BusyError, match="another job is being estimated"):
            await estimator.estimate(job)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        second = asyncio.ensure_future(estimator.estimate(job))
        await asyncio.sleep(0)
        assert not second.done()
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second

    asyncio.run(ask_twice())


def test_an_estimate_has_an_end(tmp_path: Path) -> None:
    with pytest.raises(EstimateFailedError, match=r"within 0\.001 seconds") as caught:
        asyncio.run(Estimator(seconds=0.001).estimate(TrainingJob(training_file=tmp_path / "none.jsonl")))
    assert caught.value.failed.code == "estimate_timeout"
