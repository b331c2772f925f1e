"""The queue, whether the server is well, and its metrics."""

from __future__ import annotations

from fastapi import APIRouter, Response

from .. import health, metrics
from ..db import queries
from ..errors import Forbidden, NotFound, NotReady, Unauthorised
from ..policy import Actor
from ..schemas import HealthView, QueueView
from ..settings import MetricsAudience
from .deps import CurrentActor, CurrentState, ReadSession

router = APIRouter(tags=["system"])
health_router = APIRouter(tags=["system"])


@router.get("/queue")
def queue(session: ReadSession, actor: CurrentActor, state: CurrentState) -> QueueView:
    """What runs, what comes next, and why the rest waits."""
    return queries.queue(session, state.settings.workers, actor)


@health_router.get("/healthz")
def healthz(state: CurrentState) -> HealthView:
    """Alive, and with which safeguards. Answers 200 even when degraded: read ``warnings``."""
    return health.examine(state)


@health_router.get("/readyz")
def readyz(state: CurrentState) -> dict[str, str]:
    """200 when requests can be served and jobs be run, else 503 with the reason."""
    problem = health.unready(state)
    if problem is not None:
        raise NotReady(problem)
    return {"status": "ready"}


@health_router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}, "description": "Prometheus's text format"}},
)
def show_metrics(actor: CurrentActor, state: CurrentState) -> Response:
    """Queue, jobs, sandbox failures and requests, for Prometheus; see the setting ``metrics``."""
    _require_audience(state.settings.metrics, actor)
    return Response(state.metrics.exposition(), media_type=metrics.CONTENT_TYPE)


def _require_audience(audience: MetricsAudience, actor: Actor) -> None:
    if audience == "everybody":
        return
    if audience == "nobody":
        raise NotFound("this server shows its metrics to nobody (setting metrics)")
    if actor.account_id is None:
        raise Unauthorised(
            "the metrics need an operator's token: send 'Authorization: Bearer <token>'"
        )
    if (actor.role, actor.scope) != ("operator", "operate"):
        raise Forbidden(
            f"the metrics are for operators with a token of scope 'operate'; this one has role "
            f"{actor.role!r} and scope {actor.scope!r}"
        )
