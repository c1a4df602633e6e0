"""What a study says of sending hard requests to a large model: frozen, plain data like `fettle.records`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fettle.records import Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingRule:
    """All that is needed to decide who answers a request, once the small model has answered it."""

    measure: str
    """How confidence is measured, a `routing.confidence.Measure`."""
    threshold: float | None
    """The small model's answer is given where its confidence is at least this; None: the large one answers everything."""
    coefficients: tuple[float, ...] = ()
    """Of the input's embedding, where confidence is foreseen from it; empty for every other measure."""
    intercept: float = 0.0
    """Likewise."""
    labels: tuple[str, ...] = ()
    """What the small model chooses among; empty: it writes its answers."""
    reading: str | None = None
    """How its label is read, a `contenders.readings.Reading`; None: it writes its answers."""
    label_offsets: Mapping[str, float] = field(default_factory=dict)
    """Mean log-likelihood of each label over the validation prompts, for the reading that takes them off; else empty."""
    num_samples: int = 0
    """Further answers that the small model draws for each request, where their agreement is what is measured; else 0."""
    temperature: float = 0.0
    """At which they are drawn; 0 where none are."""
    max_sample_tokens: int | None = None
    """Where the study cut them; None: none are drawn, or an older version does not say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingCosts:
    """What one request costs, in the user's currency. The small model is always asked, the large one where it is not trusted."""

    small_per_request: float
    """With the samples that it draws, where it draws some."""
    large_per_request: float

    def cost_per_request(self, share_to_large: float) -> float:
        """Of the routed system.

        >>> RoutingCosts(small_per_request=0.1, large_per_request=1.0).cost_per_request(0.25)
        0.35
        """
        return self.small_per_request + share_to_large * self.large_per_request

    def saving(self, share_to_large: float) -> float | None:
        """Share of what the large model alone would cost; below 0 where the small one only adds to it. None: that costs nothing.

        >>> RoutingCosts(small_per_request=0.1, large_per_request=1.0).saving(0.25)
        0.65
        """
        if self.large_per_request == 0:
            return None
        return 1 - self.cost_per_request(share_to_large) / self.large_per_request


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvePoint:
    """The routed system at one threshold."""

    threshold: float | None
    """None: the large model answers everything."""
    share_to_large: float
    """In [0, 1]."""
    quality: Interval
    """Mean primary score."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TriedMeasure:
    """A measure of confidence, as it did on the validation split."""

    measure: str
    area: float
    """Mean quality over all shares that could be sent to the large model, in [0, 1]: what a random choice of examples gets is the
    mean of the two models."""
    below_chosen: Interval | None
    """By how much `area` is smaller than that of the chosen measure; None: it is the chosen one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingReport:
    """A router made of two contenders: the small one answers what it is trusted with, the large one the rest."""

    small: str
    """The contender's name, as that of `large`."""
    large: str
    target: float
    """Mean primary score that the whole is to keep, in [0, 1]."""
    is_target_derived: bool
    """Nobody has named one: it is a share of what the large contender reached on validation."""
    level: float
    """Confidence with which the target is promised."""
    is_promised: bool
    """False: it cannot be, not even of the large contender alone, and everything goes there."""
    rule: RoutingRule
    share_to_large: Interval
    """Of the test examples."""
    quality: Interval
    """Mean primary score of the routed answers to the test examples, on which the threshold was calibrated."""
    small_quality: Interval
    """Of the small contender alone, on the same examples, as `large_quality`."""
    large_quality: Interval
    num_calibrated: int
    """Test examples that the promise stands on, near-duplicates counted once."""
    num_needed: int
    """Such examples that it takes at least to promise the target, if every one were answered right."""
    num_unscored: int
    """Test examples left out, because an answer of one of the two could not be scored."""
    num_validation: int
    """Validation examples that the measure was chosen on."""
    measures: tuple[TriedMeasure, ...]
    curve: tuple[CurvePoint, ...]
    """The greatest threshold first; on the test examples."""
    costs: RoutingCosts | None = None
    """None: what one of the two costs is not known."""
    trusted: tuple[str, ...] | None = None
    """Ids of the test examples that the small contender answers; None: an older version, which did not keep them, wrote this."""
