"""Which kept requests become examples; in a file of its own, as the command line names it before anything is imported."""

from __future__ import annotations

from enum import StrEnum


class Only(StrEnum):
    """Which kept requests become examples."""

    CORRECTED = "corrected"
    """Those with a corrected answer."""
    LIKED = "liked"
    """Those whose answer was scored above 1/2, and corrected ones."""
    ALL = "all"
    """All but disliked ones without a correction; nobody has looked at most of them."""
