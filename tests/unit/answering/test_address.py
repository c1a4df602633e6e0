from __future__ import annotations

import pytest

from fettle.answering.address import public_address, require_http_address
from fettle.errors import ConfigError


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:9/v1", "https://models.example", "HTTP://[::1]:80/v1", "http://a:b@c/d?e=f"]
)
def test_http_addresses_are_accepted(url: str) -> None:
    require_http_address(url)


@pytest.mark.parametrize(
    "url",
    ["", "no url", "models.example/v1", "ftp://x", "file:///etc/passwd", "http://", "http://[::1", "http://x:port/v1"],
)
def test_anything_else_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="--remote: expected the address of an endpoint"):
        require_http_address(url)


@pytest.mark.parametrize("url", ["ftp://me:secret@host/v1?key=secret#secret", "http://me:secret@[::1/v1"])
def test_a_refusal_shows_no_secret(url: str) -> None:
    with pytest.raises(ConfigError) as raised:
        require_http_address(url)
    assert "secret" not in str(raised.value)


def test_an_address_without_secrets_is_shown_as_it_is() -> None:
    for url in ("http://127.0.0.1:9/v1", "https://[::1]:8000/v1/", "http://host"):
        assert public_address(url) == url
