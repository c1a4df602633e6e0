"""The table of prices: the file in this package, and the user's in FETTLE_HOME, whose entries go first."""

from __future__ import annotations

import datetime
import difflib
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from fettle.economics_records import Price, PriceUnit, TokenPrices
from fettle.errors import ConfigError

PRICE_FILE = "prices.toml"
NO_SOURCE = "no source is told"
_Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    what: str = ""
    source: str = NO_SOURCE
    date: datetime.date | None = None
    read_on: datetime.date | None = None
    """Where the source tells no day."""

    @property
    def day(self) -> str | None:
        """As `Price.date`."""
        if self.date is not None:
            return self.date.isoformat()
        return None if self.read_on is None else f"{self.read_on.isoformat()} (read)"


class _MachineEntry(_Entry):
    price_per_hour: _Amount


class _TrainingEntry(_Entry):
    price_per_million_training_tokens: _Amount


class _ModelEntry(_Entry):
    price_per_million_input_tokens: _Amount
    price_per_million_cached_input_tokens: _Amount | None = None
    price_per_million_output_tokens: _Amount


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    currency: str = "USD"
    machines: dict[str, _MachineEntry] = {}
    training: dict[str, _TrainingEntry] = {}
    models: dict[str, _ModelEntry] = {}

    @model_validator(mode="after")
    def _is_clear(self) -> _File:
        if not self.currency.strip():
            raise ValueError("the currency has no name")
        names = [name.lower() for name in self.models]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"the model {twice[0]} is there twice, in other letters")
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceTable:
    """Prices by the names of what is bought."""

    machines: Mapping[str, Price]
    training: Mapping[str, Price]
    """Of hosted fine-tuning."""
    models: Mapping[str, TokenPrices]
    """Those of the files alone; `hosted_prices` knows more."""
    descriptions: Mapping[str, str]
    """What an entry is, in words, by its name."""

    def machine(self, name: str) -> Price:
        """An hour of a machine.

        Raises:
            ConfigError: The table has no such machine.
        """
        if name in self.machines:
            return self.machines[name]
        near = difflib.get_close_matches(name, self.machines, n=1)
        raise ConfigError(
            f"the price table has no machine `{name}`" + (f"; did you mean `{near[0]}`?" if near else ""),
            where="machine.name",
            remedy=f"name one of {', '.join(self.machines)}, add it to prices.toml in FETTLE_HOME, or give its prices",
        )


def price_table(home: Path) -> PriceTable:
    """The prices of the package, replaced and added to by those of `home`.

    Raises:
        ConfigError: The user's file is no such table.
    """
    packaged = (files("fettle.economics") / PRICE_FILE).read_text("utf-8")
    own = _read(packaged, where=PRICE_FILE)
    path = home / PRICE_FILE
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        return own
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"cannot read the prices here ({error})",
            where=str(path),
            remedy="write them as UTF-8 text, or remove the file",
        ) from error
    return _over(own, _read(text, where=str(path)))


def _over(below: PriceTable, above: PriceTable) -> PriceTable:
    replaced = {*above.machines, *above.training}  # what was said of another one's price is not said of these
    descriptions = {name: what for name, what in below.descriptions.items() if name not in replaced}
    return PriceTable(
        machines={**below.machines, **above.machines},
        training={**below.training, **above.training},
        models={**below.models, **above.models},
        descriptions={**descriptions, **above.descriptions},
    )


def _read(text: str, *, where: str) -> PriceTable:
    try:
        table = _File.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"this is no TOML ({error})", where=where, remedy="mend that line") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "file"
        raise ConfigError(
            f"`{place}`: {first['msg']}",
            where=where,
            remedy="write entries as those of `fettle prices show`: [machines.NAME], [training.NAME], [models.NAME]",
        ) from error

    def price(name: str, entry: _Entry, value: float, unit: PriceUnit) -> Price:
        return Price(name=name, value=value, unit=unit, source=entry.source, date=entry.day, currency=table.currency)

    return PriceTable(
        machines={n: price(n, e, e.price_per_hour, PriceUnit.MACHINE_HOUR) for n, e in table.machines.items()},
        training={
            n: price(n, e, e.price_per_million_training_tokens, PriceUnit.MILLION_TRAINING_TOKENS)
            for n, e in table.training.items()
        },
        models={n.lower(): _token_prices(n, e, price) for n, e in table.models.items()},
        descriptions={n: e.what for n, e in _entries(table) if e.what},
    )


def _token_prices(
    name: str, entry: _ModelEntry, price: Callable[[str, _Entry, float, PriceUnit], Price]
) -> TokenPrices:
    cached = entry.price_per_million_cached_input_tokens
    return TokenPrices(
        input=price(name, entry, entry.price_per_million_input_tokens, PriceUnit.MILLION_INPUT_TOKENS),
        output=price(name, entry, entry.price_per_million_output_tokens, PriceUnit.MILLION_OUTPUT_TOKENS),
        cached_input=None if cached is None else price(name, entry, cached, PriceUnit.MILLION_CACHED_INPUT_TOKENS),
    )


def _entries(table: _File) -> Iterator[tuple[str, _Entry]]:
    yield from table.machines.items()
    yield from table.training.items()
    yield from table.models.items()


def in_currency(price: Price, currency: str, usd: float | None) -> Price:
    """The same price in the user's currency.

    Args:
        price: In dollars, or in that currency already.
        currency: The user's.
        usd: What a dollar is in it; None: it is the dollar.

    Raises:
        ConfigError: Nobody has said what a dollar is, or the price is in a third currency.
    """
    if price.currency == currency:
        return price
    if price.currency != "USD" or usd is None:
        raise ConfigError(
            f"the price of {price.name} is in {price.currency}, and yours are in {currency}",
            where="usd" if price.currency == "USD" else "prices.toml",
            remedy=f"say what one dollar is (`usd = 0.9`), or give the price in {currency}",
        )
    return replace(price, value=price.value * usd, currency=currency)
