"""Prices of hosted models, out of the package genai-prices or what was fetched of it last. Nothing is fetched but on request."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fettle.economics_records import Price, PriceUnit, TokenPrices
from fettle.errors import ConfigError, RemoteError
from fettle.files import write_atomically

if TYPE_CHECKING:
    from decimal import Decimal

    from genai_prices.data_snapshot import DataSnapshot
    from genai_prices.types import ModelInfo, Provider, TieredPrices

FETCHED_FILE = "hosted-prices.json"
"""In FETTLE_HOME."""
_FORMAT = "fettle-hosted-prices"
_TIMEOUT_SECONDS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class HostedPrices:
    """Hosted models and what they bill."""

    snapshot: DataSnapshot
    source: str
    date: str | None
    """When it was fetched, YYYY-MM-DD; None: it came with the package, which tells no day."""

    def of(self, model: str, *, url: str | None = None, prompt_tokens: float = 0.0) -> TokenPrices | None:
        """What a model bills; None: it is not known.

        Args:
            model: Its name at the endpoint.
            url: The endpoint's address, which tells the provider; None: told from the model's name.
            prompt_tokens: Of a request: some bill long prompts otherwise.
        """
        try:
            provider, info = self.snapshot.find_provider_model(model, None, None, url)
        except LookupError:
            return None
        return self._prices(provider, info, prompt_tokens)

    def matching(self, text: str) -> tuple[TokenPrices, ...]:
        """Of all models that have `text` in their name, or in their provider's, in the order of the table."""
        wanted = text.lower()
        known = ((provider, info) for provider in self.snapshot.providers for info in provider.models)
        named = (self._prices(*one, 0.0) for one in known if wanted in _name(*one).lower())
        return tuple(prices for prices in named if prices is not None)

    def _prices(self, provider: Provider, info: ModelInfo, prompt_tokens: float) -> TokenPrices | None:
        """None: it bills something else than tokens."""
        prices = info.get_prices(datetime.now(UTC))
        given, output, cached = (
            _value(price, prompt_tokens) for price in (prices.input_mtok, prices.output_mtok, prices.cache_read_mtok)
        )
        if given is None or output is None:
            return None

        def price(value: float, unit: PriceUnit) -> Price:
            return Price(name=_name(provider, info), value=value, unit=unit, source=self.source, date=self.date)

        return TokenPrices(
            input=price(given, PriceUnit.MILLION_INPUT_TOKENS),
            output=price(output, PriceUnit.MILLION_OUTPUT_TOKENS),
            cached_input=None if cached is None else price(cached, PriceUnit.MILLION_CACHED_INPUT_TOKENS),
        )


def hosted_prices(home: Path) -> HostedPrices:
    """What was fetched into `home` last, else what came with the package.

    Raises:
        ConfigError: The fetched file is damaged.
    """
    from genai_prices.data_snapshot import get_snapshot

    path = home / FETCHED_FILE
    if not path.is_file():
        source = f"genai-prices {version('genai-prices')}, as installed"
        return HostedPrices(snapshot=get_snapshot(), source=source, date=None)
    try:
        document = json.loads(path.read_text("utf-8"))
        if document["format"] != _FORMAT:
            raise ValueError("it is of another format")
        return HostedPrices(
            snapshot=_snapshot(document["providers"]),
            source=f"genai-prices, {document['url']}",
            date=str(document["fetched_at"])[:10],
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"the fetched prices cannot be read ({_first_line(error)})",
            where=str(path),
            remedy="fetch them again with `fettle prices update`, or remove the file: those of the package are used then",
        ) from error


def fetch_hosted_prices(home: Path, url: str | None = None) -> HostedPrices:
    """Fetch what genai-prices says today, and keep it in `home` with its date.

    Args:
        home: FETTLE_HOME.
        url: Where it is fetched from; None: where the package would.

    Raises:
        RemoteError: It could not be fetched, or is no such table; what was there stays.
        DiskFullError: No space is left.
        ConfigError: `home` cannot be written.
    """
    import httpx2
    from genai_prices.update_prices import DEFAULT_UPDATE_URL

    address = url or DEFAULT_UPDATE_URL
    try:
        reply = httpx2.get(address, timeout=_TIMEOUT_SECONDS, follow_redirects=True)
        reply.raise_for_status()
        providers = json.loads(reply.content)
        if not _snapshot(providers).providers:
            raise ValueError("it holds no providers")
    except (httpx2.HTTPError, httpx2.InvalidURL, ValueError) as error:
        raise RemoteError(
            f"no prices could be fetched ({_first_line(error)})",
            where=address,
            remedy="check the network, or name a copy with --url; the prices that were there are still used",
        ) from error
    document = {"format": _FORMAT, "url": address, "fetched_at": datetime.now(UTC).isoformat(timespec="seconds")}
    write_atomically(home / FETCHED_FILE, json.dumps(document | {"providers": providers}, ensure_ascii=False))
    return hosted_prices(home)


def _snapshot(providers: Any) -> DataSnapshot:
    from genai_prices.data_snapshot import DataSnapshot
    from genai_prices.types import (
        _providers_from_raw,  # pyright: ignore[reportPrivateUsage] (the package reads fetched prices so, and has no public way)
    )

    if not isinstance(providers, list):
        raise ValueError("expected a list of providers")
    return DataSnapshot(providers=_providers_from_raw(providers), from_auto_update=True)


def _name(provider: Provider, info: ModelInfo) -> str:
    return f"{provider.id}: {info.id}"


def _value(price: Decimal | TieredPrices | None, prompt_tokens: float) -> float | None:
    """Of a million tokens, where a prompt has so many."""
    from genai_prices.types import TieredPrices

    if price is None:
        return None
    if isinstance(price, TieredPrices):
        reached = [tier.price for tier in price.tiers if prompt_tokens > tier.start]
        return float(reached[-1] if reached else price.base)
    return float(price)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
