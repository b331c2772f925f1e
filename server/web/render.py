"""How a page is made: the templates, static files with a fingerprint."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment

from bench.reports import components
from bench.reports.charts import norm_name

from ..schemas import ScoringView, TrackView

HERE = Path(__file__).parent
STATIC: dict[str, tuple[Path, str]] = {
    "tiltyard.css": (components.STYLE, "text/css; charset=utf-8"),
    "board.js": (HERE / "static" / "board.js", "text/javascript; charset=utf-8"),
    "icon.svg": (HERE / "static" / "icon.svg", "image/svg+xml"),
}
"""Every file that /static/ serves: nothing else can be asked for."""

_STATUS = {
    "success": "fooled",
    "clean_error": "clean error",
    "failed": "withstood",
    "exhausted": "withstood, budget spent",
    "invalid": "invalid answer",
}


def page(request: Request, template: str, status_code: int = 200, **context: Any) -> HTMLResponse:
    """A template as an answer. Pages are revalidated, since a result may arrive at any time."""
    origin = str(request.base_url).rstrip("/")
    html = environment().get_template(template).render(origin=origin, **context)
    return HTMLResponse(html, status_code, headers={"Cache-Control": "no-cache"})


@lru_cache(maxsize=1)
def environment() -> Environment:
    """The Jinja environment of the pages."""
    made = components.environment(HERE / "templates")
    made.globals["static"] = static_address
    made.filters.update(
        when=when,
        norm=norm_name,
        pretty=lambda value: json.dumps(value, indent=2, sort_keys=True, default=str),
        status=lambda value: _STATUS.get(value, value),
        threat_words=threat_words,
        scoring_words=scoring_words,
    )
    return made


@lru_cache(maxsize=16)
def static_address(name: str) -> str:
    """The address of a static file; its fingerprint changes with its content."""
    digest = hashlib.sha256(STATIC[name][0].read_bytes()).hexdigest()
    return f"/static/{name}?v={digest[:12]}"


def when(time: datetime) -> str:
    """A moment, in UTC: "2026-11-22 14:05"."""
    moment = time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    return f"{moment:%Y-%m-%d %H:%M}"


def scoring_words(scoring: ScoringView) -> str:
    """What a scoring counts, in a few words."""
    parts = []
    if scoring.queries is not None:
        parts.append(f"what was known after {scoring.queries} queries")
    if scoring.norm is not None:
        parts.append(f"{norm_name(scoring.norm)} distances")
    if scoring.exclude:
        parts.append(f"without {len(scoring.exclude)} of the images")
    return ", ".join(parts) or "as the track has it"


def threat_words(track: TrackView) -> str:
    """What an attack may do on this track, in one sentence."""
    threat = track.threat
    access = {
        "decision": "only the label that the model gives",
        "score": "the model's scores",
        "gradient": "the model's gradients",
    }[threat.access]
    budget = "" if threat.max_queries is None else f", {threat.max_queries} queries an image"
    bits = ", images of 8-bit values" if threat.quantised else ""
    aim = "a wanted label" if threat.targeted else "any wrong label"
    return (
        f"Attacks seek {aim}, as near as possible in {norm_name(threat.norm)}. "
        f"They see {access}{budget}{bits}."
    )
