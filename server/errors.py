"""Every answer that is not a success: RFC 9457 problem details with a stable type.

ApiError
├── Invalid            422  the request is well-formed and asks for something impossible
├── BadRequest         400  the request itself is malformed
├── Unauthorised       401  no token, or one that is unknown, expired or revoked
├── Forbidden          403  the token is good and may not do this
├── NotFound           404  not there, or hidden from who asks
├── Conflict           409  not possible in the present state
├── TooLarge           413  more bytes than the limit
├── WrongMediaType     415  a body of another type
├── Locked             423  another request is writing to the same upload
├── QuotaSpent         429  the track's submissions of the day are used up
├── TooMany            429  too many attempts in a short time
├── ChecksumMismatch   460  the bytes that arrived are not the bytes that were sent
└── NotReady           503  the server is starting or has lost its database
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

from bench.errors import UserError

from .schemas import Problem

TYPE_PREFIX = "urn:tiltyard:problem:"


class ApiError(Exception):
    """Base. ``detail`` says what was got, what was wanted, and the mend."""

    status: ClassVar[int] = 500
    slug: ClassVar[str] = "internal"
    title: ClassVar[str] = "Something went wrong on our side"

    def __init__(self, detail: str, *, headers: dict[str, str] | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.headers = headers or {}

    def problem(self, instance: str, request_id: str) -> Problem:
        """The problem document for a request to ``instance``."""
        return Problem(
            type=TYPE_PREFIX + self.slug,
            title=self.title,
            status=self.status,
            detail=self.detail,
            instance=instance,
            request_id=request_id,
        )


class BadRequest(ApiError):
    status, slug, title = 400, "bad-request", "The request is malformed"


class Unauthorised(ApiError):
    status, slug, title = 401, "unauthorised", "A token is needed"

    def __init__(self, detail: str) -> None:
        super().__init__(detail, headers={"WWW-Authenticate": 'Bearer realm="tiltyard"'})


class Forbidden(ApiError):
    status, slug, title = 403, "forbidden", "Not allowed"


class NotFound(ApiError):
    status, slug, title = 404, "not-found", "Not found"


class Conflict(ApiError):
    status, slug, title = 409, "conflict", "Not possible in the present state"


class TooLarge(ApiError):
    status, slug, title = 413, "too-large", "Too many bytes"


class WrongMediaType(ApiError):
    status, slug, title = 415, "wrong-media-type", "A body of another type is needed"


class Invalid(ApiError):
    status, slug, title = 422, "invalid", "The request asks for something impossible"


class Locked(ApiError):
    status, slug, title = 423, "locked", "Another request is writing to this"


class QuotaSpent(ApiError):
    status, slug, title = 429, "quota-spent", "The day's submissions are used up"


class TooMany(ApiError):
    status, slug, title = 429, "too-many-requests", "Too many attempts"


class ChecksumMismatch(ApiError):
    status, slug, title = 460, "checksum-mismatch", "The bytes differ from their checksum"


class NotReady(ApiError):
    status, slug, title = 503, "not-ready", "The server is not ready"


PROBLEMS: tuple[type[ApiError], ...] = (
    ApiError,
    BadRequest,
    Unauthorised,
    Forbidden,
    NotFound,
    Conflict,
    TooLarge,
    WrongMediaType,
    Invalid,
    Locked,
    QuotaSpent,
    TooMany,
    ChecksumMismatch,
    NotReady,
)


@contextmanager
def answered(kind: type[ApiError] = Invalid) -> Iterator[None]:
    """Answer a mistake that the command line shares with the API as this kind of problem."""
    try:
        yield
    except UserError as error:
        raise kind(str(error)) from error
