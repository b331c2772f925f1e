"""What can go wrong between a participant's code and the referee."""

from __future__ import annotations


class BudgetExhausted(RuntimeError):
    """A sample has too few queries left: nothing was asked and nothing was counted.

    Let it escape from ``attack_image`` and the best adversarial asked so far is handed in.
    """


class WireError(ValueError):
    """Bytes that are no ``.npy`` array, or an array other than the one that was wanted."""


class RefereeError(RuntimeError):
    """The referee refused a request for a reason that asking again will not mend.

    ``status`` is the HTTP status; the text is the referee's own reason.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(f"{reason} (HTTP {status})")
        self.status = status
        self.reason = reason


class RefereeGoneError(RuntimeError):
    """The referee cannot be reached: it has not started, or the run is over."""
