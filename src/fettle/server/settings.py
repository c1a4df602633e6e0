"""How a server behaves: plain data, so that the command line knows it without loading the server."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class MetricsAccess(StrEnum):
    """Who may read `/metrics`, which asks for no key and shows no names, only sums."""

    LOOPBACK = "loopback"
    """Programs on the same machine."""
    OPEN = "open"
    """Everybody who reaches the server."""
    OFF = "off"
    """Nobody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """How a server behaves."""

    organization_id: str = "org-fettle"
    """What jobs say as `organization_id`, and the third field of tuned models' names without its `org-`."""
    requires_key: bool = True
    """False: everybody who reaches it works in the project `default`; only on the loopback interface."""
    max_file_bytes: int = 512 << 20
    """Largest file in one request."""
    max_upload_bytes: int = 8 << 30
    """Largest file in parts."""
    max_body_bytes: int = 32 << 20
    """Largest JSON body."""
    max_base_models: int = 2
    """Base models in memory at once, whole tuned models among them; their adapters come beside them."""
    max_waiting: int = 256
    """Answers of one base model that may wait for a place in its batch; what comes beyond them is refused for now."""
    cors_origins: tuple[str, ...] = ()
    """Origins whose web pages may use the server from a browser, `*` for all; empty: none."""
    requests_per_minute: int | None = None
    """Of one key; None: no limit."""
    concurrent_requests: int | None = None
    """Of one key, being answered at the same time; None: no limit."""
    metrics: MetricsAccess = MetricsAccess.LOOPBACK
    """Who may read `/metrics`."""
    min_free_bytes: int = 256 << 20
    """`/readyz` says no where less of the disk is free."""
