"""Addresses of endpoints: which are accepted, and how one is shown.

User name, password and query can be secrets. They are sent to the endpoint and appear nowhere else.
"""

from __future__ import annotations

from urllib.parse import SplitResult, urlsplit

from fettle.errors import ConfigError


def require_http_address(url: str, *, where: str = "--remote") -> None:
    """Refuse what cannot be the address of an endpoint.

    Raises:
        ConfigError: It is no http or https URL with a host.
    """
    parts = _split(url)
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(
            f"expected the address of an endpoint, and it is {public_address(url)!r}",
            where=where,
            remedy="give a URL that starts with http:// or https://, such as https://your-endpoint/v1",
        )


def public_address(url: str) -> str:
    """The address without what may be secret: for reports, messages and hashes.

    >>> public_address("https://me:secret@models.example:8000/v1?key=secret")
    'https://models.example:8000/v1'
    """
    parts = _split(url)
    if parts is None:
        return "a malformed URL"
    host = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=host, query="", fragment="").geturl()


def without_query(url: str) -> tuple[str, str]:
    """The address to which paths can be added, and its query.

    >>> without_query("https://me:secret@models.example/v1?version=2")
    ('https://me:secret@models.example/v1', 'version=2')
    """
    parts = _split(url)
    return (url, "") if parts is None else (parts._replace(query="", fragment="").geturl(), parts.query)


def _split(url: str) -> SplitResult | None:
    """The parts of a URL; None where it is malformed."""
    try:
        parts = urlsplit(url)
        _ = parts.port  # refuses what is no port number
    except ValueError:
        return None
    return parts
