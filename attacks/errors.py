"""Errors of the attacks package."""

from __future__ import annotations


class UsageError(ValueError):
    """The caller's mistake. The message says what was got, what was wanted, and the mend."""


class BudgetExhausted(RuntimeError):
    """An image has no queries left. Nothing was asked and nothing was counted for this call.

    Attributes:
        rows: the rows of the batch that have too few queries left.
    """

    def __init__(self, rows: list[int]) -> None:
        self.rows = rows
        shown = ", ".join(map(str, rows[:5])) + (", ..." if len(rows) > 5 else "")
        super().__init__(f"the query budget is spent for image(s) {shown} of the batch")
