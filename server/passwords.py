"""Passwords: argon2id, with the parameters of RFC 9106's second recommendation (by pwdlib)."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from pwdlib import PasswordHash

from .errors import Invalid

SHORTEST: Final = 12
LONGEST: Final = 200
"""Characters. A limit at the top, since hashing takes time that grows with the length."""


def hashed(password: str) -> str:
    """The salted hash that is kept. Raises Invalid for one that is too short or too long."""
    if not SHORTEST <= len(password) <= LONGEST:
        raise Invalid(
            f"got a password of {len(password)} characters; wanted {SHORTEST} to {LONGEST}: a few "
            "words that only you would put together"
        )
    return _hasher().hash(password)


def verified(password: str, kept: str | None) -> tuple[bool, str | None]:
    """Whether the password is the one of the hash, and a newer hash where the old one is weak.

    Without a hash it takes as long as with one: who asks can't tell whether the account exists.
    """
    if len(password) > LONGEST:
        return False, None
    if kept is None:
        _hasher().verify(password, _nobodys())
        return False, None
    return _hasher().verify_and_update(password, kept)


@lru_cache(maxsize=1)
def _hasher() -> PasswordHash:
    return PasswordHash.recommended()


@lru_cache(maxsize=1)
def _nobodys() -> str:
    return _hasher().hash("a password that opens nothing")
