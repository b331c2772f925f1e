"""What every form of a signed-in person shares: who that is, and that it is their own form.

A browser holds a session token in a cookie that no script reads. Every form carries a word that
only pages of that session know, and is taken from our own origin alone.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from typing import Annotated, Any, Final, Protocol

from fastapi import Depends, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from pydantic import AfterValidator
from sqlalchemy.orm import Session

from .. import accounts
from ..api.deps import State, get_state
from ..errors import ApiError, Forbidden
from ..policy import ANONYMOUS, Actor
from ..schemas import storable
from .render import page

COOKIE: Final = "tiltyard"

Text = Annotated[str, Form(max_length=1000), AfterValidator(storable)]
Word = Annotated[str, Form(alias="csrf", max_length=100)]


def get_visitor(request: Request) -> Actor:
    """Who is signed in with this browser; nobody without a good cookie."""
    text = request.cookies.get(COOKIE)
    if not text:
        return ANONYMOUS
    with get_state(request).database.read() as session:
        return accounts.authenticate(session, text) or ANONYMOUS


Visitor = Annotated[Actor, Depends(get_visitor)]


def word_of(request: Request) -> str:
    """What forms of this session carry: made of the cookie, which nobody else has."""
    text = request.cookies.get(COOKIE, "")
    return hmac.new(text.encode(), b"form", hashlib.sha256).hexdigest()


def require_word(request: Request, word: str) -> None:
    """Raise Forbidden for a form of another session."""
    if not hmac.compare_digest(word.encode(), word_of(request).encode()):
        raise Forbidden("this form is from another session; load the page again")


def origin(request: Request, state: State) -> str:
    """Scheme, host and port under which people know this server."""
    return (state.settings.public_url or str(request.base_url)).rstrip("/")


def require_own_origin(request: Request, state: State) -> None:
    """Raise Forbidden for a form that another site sends; browsers always say from where."""
    said = request.headers.get("origin")
    if said != origin(request, state):
        raise Forbidden(
            f"this form came from {said or 'nowhere'}; send it from the page itself, or use the "
            "API with a token"
        )


def require_own_form(request: Request, state: State, word: str) -> None:
    """Raise Forbidden for a form of another site, or of another session."""
    require_own_origin(request, state)
    require_word(request, word)


def form_page(
    request: Request, template: str, error: ApiError | None, **context: Any
) -> HTMLResponse:
    """A page with forms of this session and what was wrong with the last one; kept nowhere."""
    status = error.status if error is not None else 200
    answer = page(request, template, status, word=word_of(request), error=error, **context)
    answer.headers["Cache-Control"] = "no-store"
    return answer


class Show(Protocol):
    """Answers with the page that a form stands on."""

    def __call__(self, *, error: ApiError | None = None, secret: str | None = None) -> Response:
        """With what was wrong, or with a text that is shown this once."""


def carry_out(
    request: Request,
    state: State,
    visitor: Actor,
    word: str,
    change: Callable[[Session], str | None],
    *,
    address: str,
    show: Show,
    before: Callable[[], None] | None = None,
) -> Response:
    """Do what a form asks for: back to its page, or to it with what is wrong or shown once.

    Args:
        change: in one transaction; gives a text that is shown once, if there is one.
        address: of the form's page.
        before: what needs no session, or takes a while.
    """
    if visitor.account_id is None:
        return RedirectResponse("/sign-in", 303)
    try:
        require_own_form(request, state, word)
        if before is not None:
            before()
        with state.database.write() as session:
            secret = change(session)
    except ApiError as error:
        return show(error=error)
    return RedirectResponse(address, 303) if secret is None else show(secret=secret)
