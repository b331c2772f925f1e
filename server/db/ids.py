"""Identifiers: 20 hexadecimal digits, sorted by the time at which they were made."""

from __future__ import annotations

import secrets
import time


def new_id() -> str:
    """12 digits of milliseconds since 1970, then 8 at random: sorts by age, hard to collide."""
    return f"{time.time_ns() // 1_000_000:012x}{secrets.token_hex(4)}"
