"""The user's assumptions about money: a TOML file, and single values of the command line."""

from __future__ import annotations

import dataclasses
import difflib
import tomllib
import types
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args, get_type_hints

from fettle.economics_records import Assumptions, Origin, Range, exactly
from fettle.errors import ConfigError

_FORM = "write one number, or {low = 1, best = 2, high = 3}, or [1, 2, 3]"
_SHARES = ("busy_share", "cached_share", "busy_at_most", "share_checked", "share_caught", "right_from_score")
_DAILY_HOURS = ("busy_hours_per_day", "hosted_hours_per_day")
_ABOVE_ZERO = ("requests_per_day", *_DAILY_HOURS, "busy_at_most", "horizon_days", "usd")
_HOURS_OF_A_DAY = 24.0
_MOST = 1e15
"""Of anything: beyond, sums of it would be no numbers any more."""
_AMOUNTS = ("price_", "wage_", "cost_", "value_")
"""How names of amounts of money begin."""
DOLLAR = "USD"


def read_assumptions(path: Path, before: Assumptions | None = None) -> Assumptions:
    """What a file says, over what was assumed before.

    Raises:
        ConfigError: It cannot be read, or says something that cannot be; the message names the place.
    """
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"cannot read the assumptions here ({error})",
            where=str(path),
            remedy="name a TOML file (docs/economics.md)",
        ) from error
    try:
        said = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"this is no TOML ({error})", where=str(path), remedy="mend that line") from error
    return with_said(before or Assumptions(), said, where=str(path))


def with_settings(before: Assumptions, settings: Sequence[str]) -> Assumptions:
    """What `--set` says, over what was assumed before.

    Args:
        before: What it is over.
        settings: Such as `traffic.requests_per_day=20000` or `traffic.requests_per_day=[500, 2000, 9000]`.

    Raises:
        ConfigError: One of them says nothing, or something that cannot be.

    >>> with_settings(Assumptions(), ["traffic.requests_per_day=20"]).traffic.requests_per_day.best
    20.0
    """
    together: dict[str, Any] = {}
    for setting in settings:
        name, is_set, text = setting.partition("=")
        parts = name.strip().split(".")
        if not is_set or not all(parts):
            raise ConfigError(
                f"expected NAME=VALUE, and it is {setting!r}",
                where="--set",
                remedy="write it as traffic.requests_per_day=20000",
            )
        table = together
        for part in parts[:-1]:
            inner = table.get(part)
            table[part] = inner if isinstance(inner, dict) else {}
            table = table[part]
        table[parts[-1]] = _value_of(text.strip())
    return with_said(before, together, where="--set") if together else before


def with_said(before: Assumptions, said: Mapping[str, Any], *, where: str) -> Assumptions:
    """What a mapping of TOML values says, over what was assumed before; `where` names it in messages.

    Raises:
        ConfigError: A name is unknown, or a value cannot be.
    """
    after = _over(before, said, where=where, place="")
    assert isinstance(after, Assumptions), "of the same type"
    if not after.currency.strip():
        raise ConfigError("the currency has no name", where=f"{where}: currency", remedy='write it, such as "EUR"')
    if after.usd is not None and after.currency == DOLLAR:
        raise ConfigError(
            f"what a dollar is in {DOLLAR} needs no telling",
            where=f"{where}: usd",
            remedy='say `currency` too, such as "EUR", or leave usd away',
        )
    if after.currency != before.currency:
        _require_no_amounts(after, before, where=where)
    hosted, busy = after.machine.hosted_hours_per_day, after.traffic.busy_hours_per_day
    if after.machine.bills_idle and hosted.low < busy.high:
        raise ConfigError(
            f"machines are there for {hosted.low:g} hours a day, and requests come in {busy.high:g} busy ones",
            where=f"{where}: machine.hosted_hours_per_day",
            remedy="host them at least as long, or say traffic.busy_hours_per_day too",
        )
    return after


def _require_no_amounts(after: Any, before: Any, *, where: str, place: str = "") -> None:
    """Show that no amount of another currency is taken over.

    Raises:
        ConfigError: One is.
    """
    for field in dataclasses.fields(after):
        value, earlier = getattr(after, field.name), getattr(before, field.name)
        if dataclasses.is_dataclass(value) and not isinstance(value, Range):
            _require_no_amounts(value, earlier, where=where, place=f"{place}{field.name}.")
        elif field.name.startswith(_AMOUNTS) and value is earlier and isinstance(value, Range) and value.high > 0:
            raise ConfigError(
                f"the currency is another one now, and {place}{field.name} is an amount in the former",
                where=f"{where}: currency",
                remedy="give this amount again in the new currency, together with it",
            )


def _over(before: Any, said: Mapping[str, Any], *, where: str, place: str) -> Any:
    types_by_name = get_type_hints(type(before))
    changes: dict[str, Any] = {}
    for name, value in said.items():
        path = f"{place}{name}"
        if name not in types_by_name:
            near = difflib.get_close_matches(name, types_by_name, n=1)
            known = f"did you mean `{place}{near[0]}`?" if near else f"there are {', '.join(types_by_name)}"
            raise ConfigError(
                f"there is no `{path}`; {known}", where=where, remedy="see docs/economics.md for all names"
            )
        kind = types_by_name[name]
        if dataclasses.is_dataclass(kind) and kind is not Range:
            if not isinstance(value, Mapping):
                raise ConfigError(
                    f"`{path}` is a table, and it is {value!r}", where=where, remedy=f"write its values under [{path}]"
                )
            changes[name] = _over(getattr(before, name), value, where=where, place=f"{path}.")
        else:
            changes[name] = _single(name, value, kind, where=f"{where}: {path}")
    return dataclasses.replace(before, **changes)


def _single(name: str, value: Any, kind: Any, *, where: str) -> Any:
    """One value, of the type that its field has."""
    wanted = next(one for one in _members(kind) if one is not types.NoneType)
    if wanted is Range:
        return _range(name, value, where=where)
    if wanted is float:
        return _number(name, value, where=where)
    if wanted is int:
        number = _number(name, value, where=where)
        if not number.is_integer():
            raise ConfigError(
                f"expected a whole number, and it is {value!r}", where=where, remedy="write one such as 365"
            )
        return int(number)
    if not isinstance(value, wanted):
        meant = {str: 'a text in quotes, such as "gpu"', bool: "true or false"}[wanted]
        raise ConfigError(f"expected {meant}, and it is {value!r}", where=where, remedy=f"write {meant}")
    return value


def _members(kind: Any) -> Iterator[Any]:
    yield from get_args(kind) or (kind,)


def _range(name: str, value: Any, *, where: str) -> Range:
    if isinstance(value, Mapping) and set(value) == {"low", "best", "high"}:
        numbers = [value["low"], value["best"], value["high"]]
    elif isinstance(value, list) and len(value) == 3:
        numbers = value
    elif isinstance(value, Mapping | list):
        raise ConfigError(f"expected a number or three of them, and it is {value!r}", where=where, remedy=_FORM)
    else:
        return exactly(_number(name, value, where=where))
    low, best, high = (_number(name, number, where=where) for number in numbers)
    if not low <= best <= high:
        raise ConfigError(
            f"expected low <= best <= high, and they are {low:g}, {best:g}, {high:g}", where=where, remedy=_FORM
        )
    return Range(low=low, best=best, high=high, origin=Origin.SAID)


def _number(name: str, value: Any, *, where: str) -> float:
    high = 1.0 if name in _SHARES else _HOURS_OF_A_DAY if name in _DAILY_HOURS else _MOST
    low = 1 / _MOST if name in _ABOVE_ZERO else 0.0
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigError(f"expected a number, and it is {value!r}", where=where, remedy=_FORM)
    if not low <= value <= high:
        least = "above 0" if low else "of at least 0"
        told = f"{value:g}" if isinstance(value, float) else str(value)[:20]
        raise ConfigError(
            f"expected a number {least} and at most {high:g}, and it is {told}", where=where, remedy=_FORM
        )
    return float(value)


def _value_of(text: str) -> Any:
    """As TOML would read it; what is no TOML is a text."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
