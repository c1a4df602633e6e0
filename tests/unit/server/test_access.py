"""Keys are looked at first; each may ask as often, and as much at once, as the server was told."""

from __future__ import annotations

import pytest

from fettle.server.limits import KeyLimits, LimitReachedError
from fettle.store.database import Store
from fettle.store.keys import create_key
from serving import served


def test_without_a_key_nothing_of_the_body_matters(store: Store) -> None:
    with served(store) as server:
        for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "Basic eDp5"}):
            answer = server.client.post("/v1/fine_tuning/jobs", content=b"no JSON", headers=headers)
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"] == "Bearer"
            assert "wrong" not in answer.text
        assert server.client.get("/v1/nothing").status_code == 401
        assert server.get("/v1/models", headers={"authorization": f"bearer  {server.key}"}).status_code == 200


def test_a_server_without_keys_answers_to_its_own_name_only(store: Store) -> None:
    with served(store, requires_key=False) as server:
        for host in ("127.0.0.1:8321", "localhost", "LOCALHOST:1", "[::1]:8321", "127.0.0.1"):
            assert server.client.get("/v1/models", headers={"host": host}).status_code == 200
        for host in ("rebound.example", "127.0.0.1.example:80", "localhost.example", ""):
            assert server.client.get("/v1/models", headers={"host": host}).status_code == 403


def test_a_key_that_asks_too_often_is_told_when_to_come_back(store: Store) -> None:
    other, _ = create_key(store, "another")
    with served(store, requests_per_minute=2) as server:
        first, second, third = (server.get("/v1/models") for _ in range(3))
        assert [answer.status_code for answer in (first, second, third)] == [200, 200, 429]
        assert third.json()["error"]["code"] == "rate_limit_exceeded"
        assert "2 requests per minute" in third.json()["error"]["message"]
        assert 1 <= int(third.headers["retry-after"]) <= 30
        assert [answer.headers["x-ratelimit-remaining-requests"] for answer in (first, second, third)] == [
            "1",
            "0",
            "0",
        ]
        assert first.headers["x-ratelimit-limit-requests"] == "2"
        assert server.client.get("/v1/models", headers={"authorization": f"Bearer {other}"}).status_code == 200
        assert server.client.get("/healthz").status_code == 200


def test_without_limits_no_headers_tell_of_any(store: Store) -> None:
    with served(store) as server:
        assert not [name for name in server.get("/v1/models").headers if name.startswith("x-ratelimit")]


def test_a_bucket_fills_as_time_goes_by() -> None:
    seconds = 0.0
    limits = KeyLimits(30, None, clock=lambda: seconds)
    for _ in range(30):
        with limits.admitted("key"):
            pass
    with pytest.raises(LimitReachedError) as caught, limits.admitted("key"):
        pass
    assert caught.value.seconds == pytest.approx(2.0)
    seconds = 2.0
    with limits.admitted("key") as headers:
        assert headers["x-ratelimit-remaining-requests"] == "0"
        assert headers["x-ratelimit-reset-requests"] == "60.000s"
    seconds = 1e6
    with limits.admitted("key") as headers:
        assert headers["x-ratelimit-remaining-requests"] == "29"


def test_requests_at_once_are_counted_until_they_are_answered() -> None:
    limits = KeyLimits(None, 1)
    with (
        limits.admitted("key"),
        limits.admitted("other"),
        pytest.raises(LimitReachedError, match="1 requests at once"),
        limits.admitted("key"),
    ):
        pass
    with limits.admitted("key"):
        pass
