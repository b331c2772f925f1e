"""Signing in through an OpenID Connect provider: the authorization code flow with PKCE.

OpenID Connect Core 1.0, section 3.1; Discovery 1.0, section 4; PKCE: RFC 7636. The provider is
asked over TLS, or on this machine.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple, cast
from urllib.parse import urlsplit

import requests
from authlib.common.errors import AuthlibBaseError  # type: ignore[import-untyped]
from authlib.integrations.requests_client import (  # type: ignore[import-untyped]
    OAuth2Session,
)
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet, KeySetSerialization

from bench.errors import UserError

from .errors import Forbidden, NotReady

SCOPE: Final = "openid profile email"
ALGORITHMS: Final = (
    *(f"{kind}{bits}" for kind in ("RS", "PS") for bits in (256, 384, 512)),
    "ES256",
    "ES384",
    "EdDSA",
)
"""Signatures of ID tokens that are taken: none by a shared secret."""
SECONDS: Final = 10.0
"""How long an answer of the provider may take."""
LEEWAY: Final = 60
"""Seconds by which its clock may differ."""
NAMES: Final = ("preferred_username", "nickname", "name", "email")
"""Claims that an account's name is made of, first come."""


class Provider(NamedTuple):
    """A provider, and how this server is known to it."""

    issuer: str
    client_id: str
    client_secret: str


class Pending(NamedTuple):
    """What the browser keeps while its user is at the provider."""

    state: str
    nonce: str
    verifier: str


class Identity(NamedTuple):
    """Whom the provider vouches for; ``name`` is what it calls them."""

    issuer: str
    subject: str
    name: str


def require_good(provider: Provider) -> None:
    """Raise UserError for an issuer that isn't asked over TLS (or on this machine)."""
    parts = urlsplit(provider.issuer)
    here = parts.hostname in ("127.0.0.1", "localhost", "::1")
    if not (parts.scheme == "https" or (parts.scheme == "http" and here)) or not parts.hostname:
        raise UserError(
            f"setting oidc_issuer: got {provider.issuer!r}; wanted an https:// URL, as the "
            "provider names itself"
        )


def begin(provider: Provider, back: str) -> tuple[str, Pending]:
    """Where to send the browser, and what it has to keep meanwhile.

    Args:
        back: the URL of ours to which the provider sends it back.

    Raises NotReady when the provider doesn't answer as one.
    """
    place = _metadata(provider.issuer)["authorization_endpoint"]
    pending = Pending(*(secrets.token_urlsafe(48) for _ in range(3)))
    with _client(provider, back) as client:
        url, _ = client.create_authorization_url(
            place, state=pending.state, nonce=pending.nonce, code_verifier=pending.verifier
        )
    return url, pending


def finish(
    provider: Provider, back: str, pending: Pending | None, query: Mapping[str, str]
) -> Identity:
    """Whom the provider vouches for, from what it sent the browser back with.

    Raises Forbidden for what is not of this sign-in, or not the provider's; NotReady when the
    provider doesn't answer.
    """
    if pending is None or not hmac.compare_digest(
        query.get("state", "").encode(), pending.state.encode()
    ):
        raise Forbidden("this is not the sign-in that was begun here; begin again at /sign-in")
    if "error" in query or "code" not in query:
        said = query.get("error_description") or query.get("error") or "nothing"
        raise Forbidden(f"the provider did not sign you in; it said: {said[:200]}")
    places = _metadata(provider.issuer)
    try:
        with _client(provider, back) as client:
            token = client.fetch_token(
                places["token_endpoint"],
                code=query["code"],
                code_verifier=pending.verifier,
                timeout=SECONDS,
            )
        keys = KeySet.import_key_set(cast(KeySetSerialization, _json(places["jwks_uri"])))
        claims = jwt.decode(str(token["id_token"]), keys, algorithms=ALGORITHMS).claims
        jwt.JWTClaimsRegistry(
            leeway=LEEWAY,
            iss={"essential": True, "value": provider.issuer},
            aud={"essential": True, "value": provider.client_id},
            exp={"essential": True},
            nonce={"essential": True, "value": pending.nonce},
            sub={"essential": True},
        ).validate(claims)
    except requests.RequestException as error:
        raise NotReady("the provider does not answer; try again in a moment") from error
    except (AuthlibBaseError, JoseError, KeyError, ValueError) as error:
        raise Forbidden(f"the provider's answer is not good ({error}); begin again") from error
    name = next((str(claims[each]) for each in NAMES if claims.get(each)), "")
    return Identity(provider.issuer, str(claims["sub"]), name.partition("@")[0])


def _client(provider: Provider, back: str) -> OAuth2Session:
    return OAuth2Session(
        provider.client_id,
        provider.client_secret,
        scope=SCOPE,
        redirect_uri=back,
        code_challenge_method="S256",
        token_endpoint_auth_method="client_secret_basic" if provider.client_secret else "none",
    )


@lru_cache(maxsize=4)
def _metadata(issuer: str) -> dict[str, Any]:
    """Where the provider does what; asked once, kept when it is good."""
    try:
        found = _json(f"{issuer.rstrip('/')}/.well-known/openid-configuration")
        wanted = ("authorization_endpoint", "token_endpoint", "jwks_uri")
        if found["issuer"] != issuer or any(not isinstance(found[each], str) for each in wanted):
            raise ValueError(f"it names itself {found['issuer']!r}")
    except (requests.RequestException, ValueError, KeyError) as error:
        raise NotReady(f"{issuer} does not answer as an OpenID provider: {error}") from error
    return found


def _json(url: str) -> dict[str, Any]:
    answer = requests.get(url, timeout=SECONDS)
    answer.raise_for_status()
    found = answer.json()
    if not isinstance(found, dict):
        raise ValueError(f"{url} gave no JSON object")
    return found
