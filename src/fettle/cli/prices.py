"""`fettle prices`: what machines, hosted models and hosted fine-tuning cost, where that comes from, and how old it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from fettle.cli.tables import print_table

if TYPE_CHECKING:
    from fettle.economics_records import Price, TokenPrices

_MOST_SHOWN = 40

app = typer.Typer(no_args_is_help=True, help="Prices that reports are worked out from, with their sources and days.")


@app.command()
def show(
    model: Annotated[
        str | None, typer.Argument(help="A hosted model, or a part of its name: gpt-4o, anthropic.")
    ] = None,
) -> None:
    """Show the price table; with MODEL, what hosted models of that name bill. Nothing is fetched."""
    from fettle.economics.hosted_prices import hosted_prices
    from fettle.economics.price_table import price_table
    from fettle.errors import ConfigError
    from fettle.settings import get_settings

    home = get_settings().home
    table = price_table(home)
    if model is None:
        lines = [_line(price, table.descriptions) for price in (*table.machines.values(), *table.training.values())]
        print_table(("name", "price", "of a", "what", "source", "day"), lines)
        models = tuple(table.models.values())
    else:
        named = tuple(prices for name, prices in table.models.items() if model.lower() in name)
        models = (*named, *hosted_prices(home).matching(model))
    if models:
        _print_models(models)
    elif model is not None:
        raise ConfigError(
            f"no price is known of a model with {model!r} in its name",
            where="MODEL",
            remedy='try a shorter part of it, `fettle prices update`, or add [models."NAME"] to prices.toml in FETTLE_HOME',
        )


@app.command()
def update(
    url: Annotated[
        str | None, typer.Option(help="Where to fetch from; left out: the repository of genai-prices on GitHub.")
    ] = None,
) -> None:
    """Fetch today's prices of hosted models (genai-prices) into FETTLE_HOME. The only command that fetches prices."""
    from fettle.economics.hosted_prices import FETCHED_FILE, fetch_hosted_prices
    from fettle.settings import get_settings

    home = get_settings().home
    hosted = fetch_hosted_prices(home, url)
    num_models = sum(len(provider.models) for provider in hosted.snapshot.providers)
    typer.echo(f"Prices of {num_models:,} models, fetched {hosted.date}: {home / FETCHED_FILE}")


def _line(price: Price, descriptions: Mapping[str, str]) -> tuple[str, ...]:
    value = f"{price.value:g} {price.currency}"
    return (
        price.name,
        value,
        price.unit.value,
        descriptions.get(price.name, ""),
        price.source,
        price.date or "not told",
    )


def _print_models(models: tuple[TokenPrices, ...]) -> None:
    lines = [
        (
            one.input.name,
            f"{one.input.value:g}",
            "-" if one.cached_input is None else f"{one.cached_input.value:g}",
            f"{one.output.value:g}",
            one.input.currency,
            one.input.source,
            one.input.date or "not told",
        )
        for one in models[:_MOST_SHOWN]
    ]
    typer.echo("Prices of a million tokens:")
    print_table(("model", "input", "cached", "output", "currency", "source", "day"), lines)
    if len(models) > _MOST_SHOWN:
        typer.echo(f"and {len(models) - _MOST_SHOWN:,} more")
