"""Prices: the packaged table, the user's own, hosted models, and what is fetched."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from fettle.economics.hosted_prices import FETCHED_FILE, fetch_hosted_prices, hosted_prices
from fettle.economics.price_table import NO_SOURCE, in_currency, price_table
from fettle.economics_records import Price, PriceUnit
from fettle.errors import ConfigError, RemoteError

PROVIDERS = [
    {
        "id": "acme",
        "name": "Acme",
        "api_pattern": r"https://api\.acme\.example",
        "model_match": {"starts_with": "acme-"},
        "models": [
            {
                "id": "acme-large",
                "match": {"equals": "acme-large"},
                "prices": {
                    "input_mtok": {"base": 4, "tiers": [{"start": 1000, "price": 8}]},
                    "cache_read_mtok": 1,
                    "output_mtok": 16,
                },
            },
            {"id": "acme-image", "match": {"equals": "acme-image"}, "prices": {"input_mtok": 3}},
        ],
    }
]


@contextmanager
def served(body: bytes, status: int = 200) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None: ...  # noqa: A002

    server = HTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/data.json"
    finally:
        server.shutdown()
        server.server_close()


def test_every_packaged_price_says_where_it_comes_from(tmp_path: Path) -> None:
    table = price_table(tmp_path)
    for price in (*table.machines.values(), *table.training.values()):
        assert price.source != NO_SOURCE
        assert price.value >= 0
        assert price.currency == "USD"
        assert table.descriptions[price.name]
    assert table.machine("gpu").date == "2026-11-09"


def test_the_users_file_replaces_and_adds(tmp_path: Path) -> None:
    (tmp_path / "prices.toml").write_text(
        'currency = "EUR"\n[machines.cpu]\nprice_per_hour = 0.2\nsource = "our bill"\ndate = 2026-10-01\n'
        '[models."Our-Large"]\nprice_per_million_input_tokens = 1.0\nprice_per_million_output_tokens = 2.0\n'
    )
    table = price_table(tmp_path)
    assert table.machine("cpu") == Price(
        name="cpu", value=0.2, unit=PriceUnit.MACHINE_HOUR, source="our bill", date="2026-10-01", currency="EUR"
    )
    assert table.machine("gpu").currency == "USD"
    assert table.models["our-large"].input.source == NO_SOURCE
    assert table.models["our-large"].cached_input is None


@pytest.mark.parametrize(
    "text",
    [
        "[machines.cpu]\nprice_per_hour = -1",
        "[machines.cpu]\nprice_per_minute = 1",
        "[machine.cpu]",
        "price =",
        'currency = ""',
    ],
)
def test_a_file_with_mistakes_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "prices.toml").write_text(text)
    with pytest.raises(ConfigError) as found:
        price_table(tmp_path)
    assert str(tmp_path) in found.value.describe()


def test_what_the_packaged_machine_is_is_not_said_of_the_users(tmp_path: Path) -> None:
    (tmp_path / "prices.toml").write_text("[machines.cpu]\nprice_per_hour = 0.12\n")
    table = price_table(tmp_path)
    assert table.machines["cpu"].value == 0.12
    assert "cpu" not in table.descriptions
    assert "gpu" in table.descriptions


def test_a_model_that_is_there_twice_is_named(tmp_path: Path) -> None:
    price = "price_per_million_input_tokens = 1\nprice_per_million_output_tokens = 2\n"
    (tmp_path / "prices.toml").write_text(f"[models.Large]\n{price}[models.large]\n{price}")
    with pytest.raises(ConfigError, match="large is there twice"):
        price_table(tmp_path)


def test_an_unknown_machine_is_refused_with_what_is_meant(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean `gpu`"):
        price_table(tmp_path).machine("gpuu")


def test_prices_in_dollars_are_exchanged_at_what_the_user_says(tmp_path: Path) -> None:
    price = price_table(tmp_path).machine("gpu")
    assert in_currency(price, "USD", None) is price
    assert in_currency(price, "EUR", 0.9).value == pytest.approx(0.9 * price.value)
    with pytest.raises(ConfigError, match="what one dollar is"):
        in_currency(price, "EUR", None)


def test_hosted_models_are_known_by_name_and_by_address(tmp_path: Path) -> None:
    hosted = hosted_prices(tmp_path)
    found = hosted.of("gpt-4o-mini")
    assert found is not None
    assert found.input.name == "openai: gpt-4o-mini"
    assert 0 < found.input.value < found.output.value
    assert found.cached_input is not None
    assert found.cached_input.value < found.input.value
    assert "genai-prices" in found.input.source
    assert hosted.of("llama-3.1-8b-instant") is None
    assert hosted.of("llama-3.1-8b-instant", url="https://api.groq.com/openai/v1") is not None
    assert hosted.of("no-such-model") is None
    assert any(one.input.name == "openai: gpt-4o-mini" for one in hosted.matching("4o-mini"))


def test_fetched_prices_are_kept_with_their_day_and_used(tmp_path: Path) -> None:
    with served(json.dumps(PROVIDERS).encode()) as url:
        fetch_hosted_prices(tmp_path, url)
    hosted = hosted_prices(tmp_path)
    assert hosted.date is not None
    assert len(hosted.date) == len("2026-11-27")
    short, long = hosted.of("acme-large", prompt_tokens=500), hosted.of("acme-large", prompt_tokens=1500)
    assert short is not None
    assert long is not None
    assert (short.input.value, long.input.value, short.output.value) == (4.0, 8.0, 16.0)
    assert hosted.of("acme-image") is None
    assert hosted.of("gpt-4o-mini") is None


@pytest.mark.parametrize(
    ("body", "status"), [(b"[]", 200), (b"{}", 200), (b"<html>", 200), (b"[{}]", 200), (b"[]", 500)]
)
def test_what_is_no_table_is_not_kept(tmp_path: Path, body: bytes, status: int) -> None:
    with served(body, status) as url, pytest.raises(RemoteError, match="no prices could be fetched"):
        fetch_hosted_prices(tmp_path, url)
    assert not (tmp_path / FETCHED_FILE).exists()


def test_a_damaged_copy_is_named(tmp_path: Path) -> None:
    (tmp_path / FETCHED_FILE).write_text("{}")
    with pytest.raises(ConfigError, match="cannot be read"):
        hosted_prices(tmp_path)
