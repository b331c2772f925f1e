"""What surrounds every request: an id, a limit on its body, and security headers on the answer."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .errors import ApiError, BadRequest, TooLarge
from .logs import belongs_to, request_id

logger = logging.getLogger(__name__)

Answered = Callable[[str, str, int, float], None]
"""Told of each answer: method, route, status, seconds until it began."""

BODY_BYTES = 2**20
"""Most that a request may bring, but for uploads, which count their own bytes."""

COUNTS_ITSELF = ("POST", "/submit")
"""The form that brings a file: its route counts the bytes, once it knows who sends them."""

METHODS = frozenset({"GET", "HEAD", "POST", "PATCH", "PUT", "DELETE", "OPTIONS"})

SECURITY = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "font-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


class Guard:
    """ASGI middleware: request id, body limit, security headers, times, and our own crashes.

    ``on_crash`` makes the answer to an exception that nobody handled.
    """

    def __init__(
        self,
        app: ASGIApp,
        on_crash: Callable[[Request, Exception], Response],
        answered: Answered,
    ) -> None:
        self.app = app
        self.on_crash = on_crash
        self.answered = answered

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        number = request_id(Headers(scope=scope).get("x-request-id"))
        with belongs_to(request_id=number):
            await self._guard(number, scope, receive, send)

    async def _guard(self, number: str, scope: Scope, receive: Receive, send: Send) -> None:
        scope["tiltyard.request_id"] = number
        storable = "\0" not in scope["path"] and b"%00" not in scope["query_string"]
        started = False
        begun = time.perf_counter()

        async def send_guarded(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                self._note(scope, message["status"], time.perf_counter() - begun)
                headers = MutableHeaders(scope=message)
                headers["X-Request-Id"] = number
                for name, value in SECURITY.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            if storable:
                await self._pass_on(scope, receive, send_guarded)
            else:
                error = BadRequest("the address holds a NUL character, which no name here does")
                await _answer(error, scope, receive, send_guarded)
        except Exception as crash:
            if started:
                raise
            answer = self.on_crash(Request(scope), crash)
            await answer(scope, receive, send_guarded)

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        method, route = scope["method"], route_of(scope)
        self.answered(method if method in METHODS else "other", route, status, seconds)
        told = {"method": method, "route": route, "status": status, "seconds": round(seconds, 4)}
        logger.info("%s %s", method, scope["path"], extra=told)

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "PATCH" or (scope["method"], scope["path"]) == COUNTS_ITSELF:
            await self.app(scope, receive, send)
            return
        messages = await _read(receive)
        if messages is None:
            error = TooLarge(f"the request's body has more than {BODY_BYTES} bytes")
            await _answer(error, scope, receive, send)
            return

        async def receive_again() -> Message:
            return messages.pop(0) if messages else await receive()

        await self.app(scope, receive_again, send)


async def _answer(error: ApiError, scope: Scope, receive: Receive, send: Send) -> None:
    problem = error.problem(scope["path"], scope["tiltyard.request_id"])
    answer = JSONResponse(
        problem.model_dump(exclude_none=True), error.status, media_type="application/problem+json"
    )
    await answer(scope, receive, send)


def route_of(scope: Scope) -> str:
    """The template of a request's route, such as /boards/{track}; "none" where there is no such.

    Never the path itself, of which there are as many as visitors can think of.
    """
    template = getattr(scope.get("route"), "path_format", None)
    if template is None:
        return "none"
    params = {name: str(value) for name, value in scope.get("path_params", {}).items()}
    prefix = scope["path"].removesuffix(template.format(**params))  # of the router that holds it
    return (prefix if prefix != scope["path"] else "") + str(template)


async def _read(receive: Receive) -> list[Message] | None:
    """The whole body's messages; None when it is too long."""
    messages: list[Message] = []
    size = 0
    while True:
        message = await receive()
        messages.append(message)
        size += len(message.get("body", b""))
        if size > BODY_BYTES:
            return None
        if message["type"] != "http.request" or not message.get("more_body", False):
            return messages
