"""From what a match found to rows: adversarials to the store, sample results to the database."""

from __future__ import annotations

import math
from collections.abc import Mapping

from sqlalchemy.orm import Session

from .db.tables import Match, SampleResult
from .db.writes import insert_ignore
from .jobs import Held
from .plays import Findings
from .storage import Store

LOG_BYTES = 64 * 1024


def store_images(store: Store, findings: Findings) -> list[str | None]:
    """Store each adversarial as .npy uint8 (H, W, C), before the transaction that names it."""
    from bench.adapters import to_pixels

    return [
        None if outcome.image is None else store.put_array(to_pixels(outcome.image[None])[0])
        for outcome in findings.outcomes
    ]


def store_ledger(store: Store, findings: Findings) -> str | None:
    """Store every question of a match; its SHA-256, or None where nothing was played."""
    from attacks import ledger

    if findings.ledger is None:
        return None
    return store.put(ledger.dumps(findings.ledger.entries()))


def store_logs(store: Store, logs: Mapping[str, str]) -> dict[str, str]:
    """Store the end of what each program printed: {submission: SHA-256}."""
    return {
        entry: store.put(text.encode("utf-8", "replace")[-LOG_BYTES:])
        for entry, text in logs.items()
        if text
    }


def insert(session: Session, held: Held, findings: Findings, shas: list[str | None]) -> None:
    """Insert the sample results of a match; what is there already stays as it is."""
    match = session.get_one(Match, held.match_id)
    rows = []
    for index, (outcome, worst, sha256) in enumerate(
        zip(findings.outcomes, findings.worst_cases, shas, strict=True)
    ):
        rows.append(
            {
                "match_id": match.id,
                "sample": index,
                "rules_version": match.rules_version,
                "image_id": outcome.image_id,
                "clean_label": outcome.clean_label,
                "predicted": outcome.predicted,
                "clean_correct": outcome.clean_correct,
                "success": outcome.success,
                "distance": outcome.distance if math.isfinite(outcome.distance) else None,
                "worst_case": worst,
                "distances": dict(outcome.distances) if outcome.distances is not None else None,
                "queries": outcome.queries,
                "seconds": outcome.seconds,
                "status": outcome.status,
                "reason": outcome.reason,
                "adversarial_sha256": sha256,
                "trace": [list(point) for point in outcome.trace],
                "sandbox": findings.sandbox,
                "job_id": held.job_id,
                "fence": held.fence,
            }
        )
    insert_ignore(session, SampleResult, rows)
