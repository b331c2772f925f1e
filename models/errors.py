"""Errors of the zoo."""

from __future__ import annotations


class UsageError(ValueError):
    """The caller's mistake: what was got, what was wanted, and the mend."""
