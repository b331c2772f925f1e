"""The application: state, middleware, errors, routes. ``create_app(settings)`` is all there is.

What is shared (lock, database, store, sandbox) is opened here and now, so that a server that can't
run says so before it listens; the workers start with the application and stop with it.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from . import challenges, errors, housekeeping, lifecycle, sandbox
from .api import admin, auth, matches, submissions, system, tracks, uploads
from .api import challenges as challenge_routes
from .api.deps import State
from .db import migrations
from .db.engine import Database
from .instance import Instance
from .middleware import Guard
from .plays import Player
from .sandbox.types import Provider
from .schemas import Problem
from .settings import Settings
from .storage import Store
from .worker import Worker

logger = logging.getLogger(__name__)
PROBLEM_JSON = "application/problem+json"


def create_app(settings: Settings) -> FastAPI:
    """The server as an ASGI application.

    Raises UserError (folder in use, bad database URL) and InfrastructureError (no Docker engine).
    """
    instance = Instance(settings.data_dir)
    try:
        state = _open(settings, instance)
    except BaseException:
        instance.close()
        raise

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await run_in_threadpool(_start, state, instance)
        try:
            yield
        finally:
            await run_in_threadpool(_stop, state, instance)

    app = FastAPI(
        title="Tiltyard",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/v1/openapi.json",
        responses={"default": {"model": Problem, "description": "any error, RFC 9457"}},
    )
    app.state.tiltyard = state
    app.state.uploads_in_progress = set()
    for router in (
        uploads.router,
        submissions.router,
        challenge_routes.router,
        tracks.router,
        matches.router,
        auth.router,
        admin.router,
    ):
        app.include_router(router, prefix="/api/v1")
    app.include_router(system.router, prefix="/api/v1")
    app.include_router(system.health_router)
    _include_pages(app)
    app.add_exception_handler(errors.ApiError, _on_api_error)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_middleware(Guard, on_crash=_on_crash, answered=state.metrics.answered)
    return app


def _open(settings: Settings, instance: Instance) -> State:
    if settings.oidc_issuer is not None:
        from . import oidc

        oidc.require_good(oidc.Provider(settings.oidc_issuer, settings.oidc_client_id, ""))
    database = Database(settings.url)
    migrations.upgrade(database)
    provider = open_provider(settings, instance.id) if settings.workers else None
    return State(settings, database, Store(settings.artefacts), provider)


def open_provider(settings: Settings, instance: str) -> Provider:
    """The sandbox that the settings name. Raises InfrastructureError when there is no engine."""
    docker = settings.sandbox == "docker"
    return sandbox.provider(
        settings.sandbox,
        instance,
        folder=settings.sockets if docker else settings.data_dir / "sandbox",
        runtime=settings.docker_runtime if docker else None,
    )


def _start(state: State, instance: Instance) -> None:
    baselines = state.settings.baselines
    with state.database.write() as session:
        challenges.open_first(session, state.settings.challenges)
        lifecycle.settle_all(session)
        if baselines != "none":
            lifecycle.enter_baselines(session, slow=baselines == "all")
    housekeeping.collect(state.database, state.store, state.settings.data_dir)
    if state.settings.workers:
        player = Player(state.provider, state.store)
        state.worker = Worker(state.settings, state.database, player, owner=instance.owner())
        state.worker.start(instance.id)


def _stop(state: State, instance: Instance) -> None:
    if state.worker is not None:
        state.worker.stop()
    if state.provider is not None:
        state.provider.close()
    state.database.close()
    instance.close()


def _include_pages(app: FastAPI) -> None:
    from .web import entering, organising, pages, people

    app.include_router(pages.router)
    app.include_router(people.router)
    app.include_router(organising.router)
    app.include_router(entering.router)


def _answer(request: Request, problem: Problem, headers: dict[str, str] | None = None) -> Response:
    """A problem document; a page for browsers outside the API."""
    wants_page = "text/html" in request.headers.get("accept", "")
    if wants_page and not request.url.path.startswith("/api/"):
        from .web.render import page

        answer: Response = page(request, "error.html", problem.status, problem=problem, here="")
        answer.headers.update(headers or {})
        return answer
    body = problem.model_dump(exclude_none=True)
    return JSONResponse(body, problem.status, headers=headers, media_type=PROBLEM_JSON)


def _request_id(request: Request) -> str:
    return str(request.scope.get("tiltyard.request_id", ""))


async def _on_api_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, errors.ApiError)
    problem = error.problem(request.url.path, _request_id(request))
    return _answer(request, problem, error.headers)


async def _on_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    wrong = [
        {"where": ".".join(map(str, item["loc"])), "what": item["msg"]} for item in error.errors()
    ]
    named = "; ".join(f"{item['where']}: {item['what']}" for item in wrong)
    problem = errors.Invalid(f"the request is not as described in /api/v1/openapi.json: {named}")
    document = problem.problem(request.url.path, _request_id(request))
    return _answer(request, document.model_copy(update={"errors": wrong}))


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    known = {kind.status: kind for kind in errors.PROBLEMS if kind is not errors.ApiError}
    kind = known.get(error.status_code)
    path = request.url.path
    detail = {
        404: f"there is no {path}; /api/v1/openapi.json lists what there is",
        405: f"{path} does not take {request.method}; see the Allow header",
    }.get(error.status_code, str(error.detail))
    problem = Problem(
        type=errors.TYPE_PREFIX + (kind.slug if kind else f"http-{error.status_code}"),
        title=kind.title if kind else HTTPStatus(error.status_code).phrase,
        status=error.status_code,
        detail=detail,
        instance=path,
        request_id=_request_id(request),
    )
    return _answer(request, problem, dict(error.headers or {}))


def _on_crash(request: Request, error: Exception) -> Response:
    number = _request_id(request)
    logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
    ours = errors.ApiError(
        f"this is our fault; nothing was changed. Tell the operator the request id {number}"
    )
    return _answer(request, ours.problem(request.url.path, number))
