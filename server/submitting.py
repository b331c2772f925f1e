"""What `tiltyard submit` and `tiltyard board` do: pack, send, follow, show."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.errors import UserError

from . import packaging
from .client import Client

Report = Callable[[str], None]

SHOWN_LINES = 12
"""Of the output of a submission that failed."""


def submit(
    what: Path,
    *,
    track: str | None,
    name: str | None,
    server: str,
    token: str | None,
    wait: bool,
    report: Report,
) -> dict[str, Any]:
    """Send a folder or a saved image; returns the submission as the server shows it.

    The server says where it runs submissions: for Docker the folder is built into an image here and
    saved, for the process sandbox it is packed as it is.

    Raises:
        UserError: no token, a bad folder, no Docker to build with, or what the server refuses.
        InfrastructureError: the server's failure.
    """
    if not token:
        raise UserError(
            "no token; set TILTYARD_TOKEN to the one that the organiser gave you "
            "(`tiltyard admin create-token NAME` makes one)"
        )
    with Client(server, token) as client, _package(what, track, client.sandbox(), report) as file:
        if what.is_dir():
            manifest = packaging.read_manifest(what, track)
            track, name = track or manifest.track, name or manifest.name
        if track is None or name is None:
            raise UserError(f"{what} is a file and says neither; add --track and --name")
        client.rules(track)  # an unknown track is said before anything is sent
        size = file.stat().st_size
        report(f"sending {size / 2**20:.1f} MiB")
        upload = client.upload(file, _percent(report))
        view = client.submit(track, name, upload)
        report(f"submitted: {server}/entries/{view['id']}")
        if wait:
            view = client.wait(view["id"], _changes(report))
            _tell_the_end(client, view, report)
        return view


def _tell_the_end(client: Client, view: dict[str, Any], report: Report) -> None:
    """What came of a submission: its rank and score, or why it has none and what it printed."""
    rows = [] if view["state"] != "accepted" else client.board(view["track"])["rows"]
    row = next((row for row in rows if row["entry"]["id"] == view["id"]), None)
    if row is not None and row["score"] is not None:
        scored = sum(other["score"] is not None for other in rows)
        interval = row["interval"]
        report(
            f"rank {row['rank']} of {scored}: {row['score']:.3f} "
            f"[{interval['lower']:.3f}, {interval['upper']:.3f}]"
        )
        return
    reason = view["reason"] or (row["reason"] if row is not None else None)
    if reason:
        report(f"reason: {reason}")
    printed = client.logs(view["id"])[0].strip().splitlines()[-SHOWN_LINES:]
    if printed:
        report("its last output:")
        for line in printed:
            report(f"  {line}")


def board_table(view: dict[str, Any]) -> tuple[list[str], Iterator[list[str]]]:
    """The columns and rows of a board for people."""
    columns = ["rank", "entry", "by", "score", "95 % interval", "clean", "worst opponent",
               "queries", "matches", "remarks"]  # fmt: skip
    return columns, (_row(row) for row in view["rows"])


def _row(row: dict[str, Any]) -> list[str]:
    interval, worst = row["interval"], row["worst_opponent"]
    remarks = [] if row["state"] == "scored" else [row["reason"] or row["state"]]
    if row["entry"]["baseline"]:
        remarks.append("baseline")
    if not row["isolated"]:
        remarks.append("process: not isolated")
    return [
        str(row["rank"] or "-"),
        row["entry"]["name"],
        row["entry"]["owner"],
        "-" if row["score"] is None else f"{row['score']:.3f}",
        f"[{interval['lower']:.3f}, {interval['upper']:.3f}]" if interval else "",
        "" if row["clean_accuracy"] is None else f"{row['clean_accuracy']:.1%}",
        f"{worst['opponent']['name']} ({worst['median_distance']:.3f})" if worst else "",
        "" if row["mean_queries"] is None else f"{row['mean_queries']:.0f}",
        f"{row['matches_done']}/{row['matches_expected']}",
        "; ".join(remarks),
    ]


@contextmanager
def _package(what: Path, track: str | None, sandbox: str | None, report: Report) -> Iterator[Path]:
    """The file to send, made in a temporary folder where `what` is a folder."""
    if what.is_file():
        yield what
        return
    if not what.exists():
        raise UserError(f"there is no {what}; wanted a submission's folder or a saved image")
    packaging.read_manifest(what, track)
    with tempfile.TemporaryDirectory(prefix="tiltyard-") as folder:
        if sandbox == "process":
            report("packing the folder (this server runs submissions as plain processes)")
            yield packaging.source_package(what, Path(folder) / "submission.tar.gz", track)
            return
        report("building the image")
        tag = packaging.image_tag(what, track)
        quiet = os.environ.get("TILTYARD_BUILD_LOG") != "1"
        packaging.build_image(what, tag, (lambda line: None) if quiet else report, track)
        yield packaging.save_image(tag, Path(folder) / "submission.tar")


def _percent(report: Report) -> Callable[[int, int], None]:
    """Report an upload's progress in quarters, and small ones not at all."""
    shown = 0

    def progress(there: int, size: int) -> None:
        nonlocal shown
        quarter = 4 * there // size
        if size > 2**25 and quarter > shown:
            shown = quarter
            report(f"sent {25 * quarter} %")

    return progress


def _changes(report: Report) -> Callable[[dict[str, Any]], None]:
    """Report a submission's state whenever it has changed, with its matches done and to do."""
    shown = ""

    def progress(view: dict[str, Any]) -> None:
        nonlocal shown
        matches = [job for job in view["jobs"] if job["kind"] == "match"]
        done = sum(job["finished_at"] is not None for job in matches)
        line = str(view["state"])
        if matches:
            line += f", {done} of {len(matches)} matches played"
        elif view["position"] is not None:
            line += f", position {view['position']} in the queue"
        if line != shown:
            shown = line
            report(line)

    return progress
