"""Whose fault is it? Three answers, three exits.

TiltyardError
├── UserError             the person at the keyboard or the request: exit 2, no traceback
├── SubmissionError       a submitted container: recorded with its reason, never retried
└── InfrastructureError   ours (engine, disk, database): exit 3, retried by the queue
"""

from __future__ import annotations


class TiltyardError(Exception):
    """Base of every error that Tiltyard raises on purpose."""


class UserError(TiltyardError):
    """The user's mistake. The message says what was got, what was wanted, and the mend."""


class SubmissionError(TiltyardError):
    """A submission failed by its own fault. The message is shown to its author."""


class InfrastructureError(TiltyardError):
    """Our own failure. It costs a participant nothing and is tried again."""
