"""Sizes of held-out parts, as options give them."""

from __future__ import annotations

from fettle.errors import ConfigError


def split_size(value: float | None) -> float | int | None:
    """A share below 1, or a whole number of examples; None stays None.

    Raises:
        ConfigError: It is neither.
    """
    if value is None or value < 1:
        return value
    if not value.is_integer():  # nor infinite
        raise ConfigError(
            f"expected a whole number of examples or a share below 1, and it is {value:g}",
            where="--valid-size, --test-size",
            remedy="give 50 for 50 examples, or 0.2 for a fifth of them",
        )
    return int(value)
