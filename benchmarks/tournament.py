"""A tournament of the zoo, played through a server: boards, every cell, and the orderings.

    python benchmarks/tournament.py mnist5k --images 50 --without abs

The server is the real one: it enters the baselines, schedules, plays and scores them, and this
script only reads its API. It ends with exit code 1 where an ordering of arXiv 1808.01976 does not
hold: adversarial training above plain training, transfer with the boundary attack better than the
boundary attack, which is better than noise, targeted distances above untargeted ones.
"""

from __future__ import annotations

import argparse
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from bench.tracks.types import Track
from server import rules, settings
from server.app import create_app

Cells = dict[tuple[str, str], float | None]


def main() -> int:
    """Play, print, check."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("challenge", choices=("mnist5k", "fashion-mnist", "tiny-imagenet-avc"))
    parser.add_argument("--images", type=int, default=50)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--without", nargs="*", default=[], help="baselines to leave out, by name")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, help="the server's folder; goes on where it was")
    options = parser.parse_args()
    tracks = _tracks(options)
    rules.tracks = lambda: tracks  # type: ignore[assignment]
    with tempfile.TemporaryDirectory() as temporary:
        chosen = settings.load(
            data_dir=options.out or Path(temporary),
            workers=options.workers,
            challenges=(options.challenge,),
            baselines="all",
            sandbox="process",  # nothing but our own entries is played
        )
        begun = time.monotonic()
        with _serving(chosen) as client:
            _wait(client, tracks)
            boards = {name: client.get(f"/api/v1/boards/{name}").json() for name in tracks}
            cells = {name: _cells(client, name) for name in tracks}
        seconds = time.monotonic() - begun
    played = sum(len(cells[name]) for name, track in tracks.items() if track.kind != "model")
    print(
        f"{options.challenge}: {options.images} images, {options.queries} queries an image, "
        f"{played} matches played in {seconds / 60:.0f} min with {options.workers} workers"
    )
    for name, board in boards.items():
        _print_board(name, board)
        _print_cells(tracks[name], cells[name])
    return _check(options.challenge, boards, cells)


def _tracks(options: argparse.Namespace) -> dict[str, Track]:
    found = {}
    for name, track in rules.tracks().items():
        if track.challenge == options.challenge:
            found[name] = replace(
                track,
                images=options.images,
                threat=replace(track.threat, max_queries=options.queries),
                baseline_models=tuple(
                    b for b in track.baseline_models if b.title not in options.without
                ),
                baseline_attacks=tuple(
                    b for b in track.baseline_attacks if b.title not in options.without
                ),
            )
    return found


@contextmanager
def _serving(chosen: settings.Settings) -> Iterator[httpx.Client]:
    server = uvicorn.Server(uvicorn.Config(create_app(chosen), log_level="warning", ws="none"))
    listening = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        address = f"http://127.0.0.1:{listening.getsockname()[1]}"
        with httpx.Client(base_url=address, timeout=120) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join()
        listening.close()


def _wait(client: httpx.Client, tracks: dict[str, Track]) -> None:
    told = -1
    while True:
        waiting = max(client.get(f"/api/v1/boards/{name}").json()["waiting"] for name in tracks)
        queue = client.get("/api/v1/queue").json()
        left = queue["queued"] + queue["running"]
        if left != told:
            print(f"{left} matches to be played", file=sys.stderr, flush=True)
            told = left
        if not waiting and not left:
            return
        time.sleep(2)


def _cells(client: httpx.Client, track: str) -> Cells:
    """{(model, attack): median distance} of all matches of a track; None where it is infinite."""
    found: Cells = {}
    after: str | None = None
    while True:
        params: dict[str, str | int] = {"track": track, "limit": 100}
        if after is not None:
            params["after"] = after
        page = client.get("/api/v1/matches", params=params).json()
        for match in page["items"]:
            if match["state"] == "succeeded":
                found[match["model"]["name"], match["attack"]["name"]] = match["median_distance"]
        after = page["next"]
        if after is None:
            return found


def _print_board(name: str, board: dict[str, Any]) -> None:
    print(f"\n{name} (rules {board['track']['rules_version']})\n")
    print("| rank | entry | score | 95 % | clean accuracy | mean queries | not fooled |")
    print("|---|---|---|---|---|---|---|")
    for row in board["rows"]:
        if row["score"] is None:
            print(f"| - | {row['entry']['name']} | {row['state']}: {row['reason']} | | | | |")
            continue
        low, high = row["interval"]["lower"], row["interval"]["upper"]
        clean = "" if row["clean_accuracy"] is None else f"{row['clean_accuracy']:.0%}"
        print(
            f"| {row['rank']} | {row['entry']['name']} | {row['score']:.3f} "
            f"| [{low:.3f}, {high:.3f}] | {clean} | {row['mean_queries']:.0f} "
            f"| {row['failed_samples']} |"
        )


def _print_cells(track: Track, cells: Cells) -> None:
    if track.kind == "model":  # the same matches as on the untargeted attacks' board
        return
    models, attacks = (sorted({pair[side] for pair in cells}) for side in (0, 1))
    print("\nMedian distance\n")
    print(f"| | {' | '.join(attacks)} |\n|---|{'---|' * len(attacks)}")
    for model in models:
        values = [cells.get((model, attack)) for attack in attacks]
        print(f"| {model} | {' | '.join('inf' if v is None else f'{v:.3f}' for v in values)} |")


def _check(challenge: str, boards: dict[str, Any], cells: dict[str, Cells]) -> int:
    scores = {
        name: {row["entry"]["name"]: row["score"] for row in board["rows"]}
        for name, board in boards.items()
    }
    models = scores[f"{challenge}-robust-model"]
    untargeted = scores[f"{challenge}-untargeted-attack"]
    targeted = scores[f"{challenge}-targeted-attack"]
    both = sorted(set(untargeted) & set(targeted))
    claims: list[tuple[str, Callable[[], bool] | None]] = [
        (
            "trained against PGD above plain",
            (lambda: models["small_cnn:training=pgd"] > models["small_cnn"])
            if "small_cnn:training=pgd" in models
            else None,
        ),
        (
            "transfer with boundary better than boundary",
            (lambda: untargeted["transfer + boundary"] < untargeted["boundary"])
            if "transfer + boundary" in untargeted
            else None,
        ),
        (
            "boundary better than noise",
            lambda: untargeted["boundary"] < untargeted["gaussian_noise"],
        ),
        (
            f"targeted farther than untargeted ({', '.join(both)})",
            lambda: all(targeted[name] > untargeted[name] for name in both),
        ),
    ]
    print()
    wrong = 0
    for text, holds in claims:
        if holds is not None:
            right = holds()
            wrong += not right
            print(f"{'yes' if right else 'NO '}  {text}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
