"""What watches the server."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from fettle.answering.engine_pool import PoolLoad
from fettle.server.metrics import Metrics
from fettle.server.settings import MetricsAccess
from fettle.store.database import Store
from fettle.store.workers import give_sign
from serving import served


def test_a_server_that_can_work_says_so_without_a_key(store: Store) -> None:
    with served(store) as server:
        assert server.client.get("/healthz").json() == {"status": "alive"}
        assert server.client.get("/readyz").json() == {
            "status": "ready", "database": "ok", "migrations": "ok", "disk": "ok"
        }  # fmt: skip


def test_a_full_disk_is_a_reason_to_get_no_requests(store: Store) -> None:
    with served(store, min_free_bytes=1 << 60) as server:
        answer = server.client.get("/readyz")
        assert answer.status_code == 503
        assert answer.json()["status"] == "not ready"
        assert "MiB are free" in answer.json()["disk"]
        assert server.client.get("/healthz").status_code == 200


def test_tables_of_another_version_are_a_reason_too(store: Store) -> None:
    with served(store) as server:
        with store.writing() as connection:
            connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
        answer = server.client.get("/readyz")
        assert (answer.status_code, answer.json()["database"]) == (503, "ok")
        assert answer.json()["migrations"] != "ok"


def test_so_is_a_database_that_does_not_answer(tmp_path: Path) -> None:
    store = Store(tmp_path / "home")
    with served(store) as server:
        store.close()
        shutil.rmtree(tmp_path / "home")
        answer = server.client.get("/readyz")
        assert (answer.status_code, answer.json()["database"]) == (503, "does not answer")
        assert "fettle_database_up 0" in server.client.get("/metrics").text


def test_the_numbers_of_requests_have_templates_and_no_ids(store: Store) -> None:
    with served(store) as server:
        for model in ("one", "two", "three"):
            server.get(f"/v1/models/{model}")
        server.get("/v1/fine_tuning/jobs/ftjob-planted/events")
        server.get("/anything/planted")
        text = server.client.get("/metrics").text
        assert 'fettle_requests_total{method="GET",route="/v1/models/{name:path}",status="404"} 3.0' in text
        assert 'route="/v1/fine_tuning/jobs/{job_id}/events"' in text
        assert 'route="unknown"' in text
        assert "planted" not in text
        assert server.key not in text


def test_jobs_workers_and_engines_are_counted(store: Store) -> None:
    with served(store) as server:
        assert "fettle_workers 0.0" in server.client.get("/metrics").text
        with store.writing() as connection:
            give_sign(connection, "host/1/a")
            give_sign(connection, "host/1/a")
            give_sign(connection, "host/2/b")
        text = server.client.get("/metrics").text
        for line in ("fettle_workers 2.0", 'fettle_jobs{status="running"} 0.0', "fettle_base_models_in_memory 0.0"):
            assert line in text


def test_what_engines_do_is_told() -> None:
    metrics = Metrics()
    metrics.watch_engines(lambda: PoolLoad(num_waiting=3, num_running=8, num_adapters=4, num_bases=1))
    metrics.on_tokens(num_read=12, num_written=5)
    metrics.on_first_token(0.3)
    text = metrics.text().decode()
    for line in (
        'fettle_chats{state="waiting"} 3.0',
        'fettle_chats{state="running"} 8.0',
        "fettle_adapters_in_memory 4.0",
        'fettle_tokens_total{direction="in"} 12.0',
        'fettle_tokens_total{direction="out"} 5.0',
        'fettle_first_token_seconds_bucket{le="0.5"} 1.0',
    ):
        assert line in text


@pytest.mark.parametrize(
    ("access", "host", "headers", "status"),
    [
        (MetricsAccess.LOOPBACK, "127.0.0.1", {}, 200),
        (MetricsAccess.LOOPBACK, "::1", {}, 200),
        (MetricsAccess.LOOPBACK, "10.1.2.3", {}, 404),
        (MetricsAccess.LOOPBACK, "127.0.0.1", {"forwarded": "for=10.1.2.3"}, 404),
        (MetricsAccess.OPEN, "10.1.2.3", {}, 200),
        (MetricsAccess.OFF, "127.0.0.1", {}, 404),
    ],
)
def test_who_may_read_the_numbers(store: Store, access: MetricsAccess, host: str, headers: Any, status: int) -> None:
    with served(store, host, metrics=access) as server:
        assert server.client.get("/metrics", headers=headers).status_code == status
