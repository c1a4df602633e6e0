"""How a judge is asked."""

from __future__ import annotations

from dataclasses import dataclass

from fettle.errors import require_range

MOST_REPEATS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenPrices:
    """What an endpoint bills, per million tokens, in the user's currency."""

    of_prompt: float
    of_reply: float

    def __post_init__(self) -> None:
        """Refuse what is no price.

        Raises:
            ConfigError: A price is negative, or no finite number.
        """
        require_range("of_prompt", self.of_prompt, low=0)
        require_range("of_reply", self.of_reply, low=0)

    def of(self, prompt_tokens: int, reply_tokens: int) -> float:
        """What so many tokens cost.

        >>> TokenPrices(of_prompt=2.0, of_reply=8.0).of(500_000, 125_000)
        2.0
        """
        return (prompt_tokens * self.of_prompt + reply_tokens * self.of_reply) / 1e6


def token_prices(told: tuple[float, float]) -> TokenPrices:
    """As the command line takes them: of prompts, of replies.

    Raises:
        ConfigError: A price is negative, or no finite number.
    """
    return TokenPrices(of_prompt=told[0], of_reply=told[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeSettings:
    """What is compared, and how often."""

    between: tuple[str, str] | None = None
    """Names of the challenger and the baseline; None: those of the study's declared comparison."""
    repeats: int = 1
    """How often each pair is shown in each order. From 2 on the judge's own flip rate is measured."""
    sample: int | None = None
    """Pairs compared, drawn at random, the same as people are asked about; None: all. A larger sample contains a smaller one."""
    prices: TokenPrices | None = None
    """None: no price is told."""

    def __post_init__(self) -> None:
        """Refuse what cannot be asked.

        Raises:
            ConfigError: A value is out of its range.
        """
        require_range("repeats", self.repeats, low=1, high=MOST_REPEATS)
        if self.sample is not None:
            require_range("sample", self.sample, low=1)
