"""A small world of entries and played matches, made through the server's own functions."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright
from sqlalchemy import select

from bench.errors import UserError
from bench.score import worst_case_distance
from bench.tracks.types import Baseline
from server import accounts, challenges, frozen, hidden, jobs, lifecycle, rounds, rules
from server.app import create_app
from server.db import migrations
from server.db.engine import Database
from server.db.tables import Match, SampleResult, Submission
from server.plays import samples_of
from server.settings import Settings, load
from server.storage import Store

IMAGES = 8
CLEAN_ERROR, FAILED = 0, 7
"""Samples that every model gets wrong, and that no attack of the world breaks."""
MODEL_TRACK, ATTACK_TRACK = "mnist5k-robust-model", "mnist5k-untargeted-attack"


@dataclass
class World:
    """A database with the tracks' baselines entered, and ways to make things happen."""

    settings: Settings
    database: Database
    store: Store

    def enter(self, name: str, track: str, owner: str = "ada", *, accept: bool = True) -> str:
        """A participant's entry; its matches against today's opponents are queued."""
        with self.database.write() as session:
            try:
                account = accounts.find_user(session, owner)
            except UserError:
                account = accounts.create_user(session, owner)
            row = Submission(
                account_id=account.id,
                name=name,
                track=track,
                kind=rules.track(track).kind,
                source="package",
                sha256="ab" * 32,
                state="validating",
            )
            session.add(row)
            session.flush()
            if accept:
                lifecycle.accept(session, row.id)
            return row.id

    def play(self, *, limit: int = 1000, sandbox: str = "trusted", strength: int = 1) -> list[str]:
        """Play queued matches, next first; `strength` scales all distances. Their match ids."""
        played: list[str] = []
        while len(played) < limit:
            with self.database.write() as session:
                held = jobs.claim(session, owner="test:0", host="here", lease_seconds=60)
                if held is None or held.match_id is None:
                    return played
                jobs.begin(session, held.job_id, held.fence)
            with self.database.write() as session:
                match = session.get_one(Match, held.match_id)
                session.add_all(self._facts(match, held, sandbox, strength))
                jobs.succeed(session, held.job_id, held.fence, {"tiltyard": "0.1", "seed": 0})
                session.flush()
                lifecycle.settle(session, match.rules_version)
            played.append(held.match_id)
        return played

    def round(self, name: str) -> str:
        """A round of eight hidden images, played and published; its id."""
        with self.database.write() as session:
            made = rounds.freeze(session, self.store, "mnist5k", name, actor="root", images=IMAGES)
        self.play()
        with self.database.write() as session:
            rounds.publish(session, made.id, "root")
        return made.id

    def fail(self, reason: str) -> str:
        """Have the next match fail by the fault of the entry that it was queued for; its id."""
        with self.database.write() as session:
            held = jobs.claim(session, owner="test:0", host="here", lease_seconds=60)
            assert held is not None
            assert held.match_id is not None
            jobs.begin(session, held.job_id, held.fence)
            jobs.fail_user(session, held.job_id, held.fence, reason, fault_id=held.submission_id)
            lifecycle.settle(session, session.get_one(Match, held.match_id).rules_version)
            return held.match_id

    def match_id(self, model: str, attack: str) -> str:
        """The match of two entries by name."""
        with self.database.read() as session:
            for match in session.scalars(select(Match)):
                if (match.model.name, match.attack.name) == (model, attack):
                    return match.id
        raise LookupError(f"{model} has not met {attack}")

    def entry_id(self, name: str) -> str:
        """An entry by name."""
        with self.database.read() as session:
            return session.scalars(select(Submission.id).filter_by(name=name)).one()

    def _facts(
        self, match: Match, held: jobs.Held, sandbox: str, strength: int
    ) -> Iterator[SampleResult]:
        with self.database.read() as session:
            track = frozen.sharing(session, match.rules_version)[0]
        unseen = rules.hidden(track)
        data = hidden.load(self.store, track) if unseen else samples_of(track)
        budget = track.threat.max_queries
        changed = strength * (2 + len(match.model.name) % 5 + 3 * (len(match.attack.name) % 4))
        for row in range(match.images):
            image = data.pixels[row]
            fooled = row not in (CLEAN_ERROR, FAILED)
            adversarial = image.copy()
            flat = adversarial.reshape(-1)
            flat[100 : 100 + changed + row] = 255 - flat[100 : 100 + changed + row]
            difference = (adversarial.astype(np.float64) - image) / 255
            distance = math.sqrt(float((difference**2).sum()))
            facts: dict[str, Any] = {"status": "clean_error", "queries": 0, "trace": []}
            if fooled:
                trace = [[3 + row, 3 * distance], [10 + row, 2 * distance], [60, distance]]
                facts = {"status": "success", "queries": budget - row, "trace": trace}
                facts["adversarial_sha256"] = self.store.put_array(adversarial)
            elif row == FAILED:
                reason = "nothing adversarial was asked within the budget"
                facts = {"status": "exhausted", "queries": budget, "trace": [], "reason": reason}
            label = int(data.labels[row])
            yield SampleResult(
                match_id=match.id,
                sample=row,
                rules_version=match.rules_version,
                image_id=data.ids[row],
                clean_label=label,
                predicted=(label + 1) % 10 if row == CLEAN_ERROR else label,
                clean_correct=row != CLEAN_ERROR,
                success=fooled,
                distance=distance if fooled else (0.0 if row == CLEAN_ERROR else None),
                worst_case=float(worst_case_distance(data.pixels[row : row + 1])[0]),
                distances={"l2": distance} if fooled else None,
                seconds=0.01,
                sandbox=sandbox,
                job_id=held.job_id,
                fence=held.fence,
                **facts,
            )


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """Two baseline models and two baseline attacks on eight images; nothing is played yet."""
    small = {
        name: replace(
            track,
            images=IMAGES,
            threat=replace(track.threat, max_queries=100),
            baseline_models=(Baseline("small_cnn"), Baseline("small_cnn:training=pgd")),
            baseline_attacks=()
            if track.threat.targeted
            else (Baseline("gaussian_noise"), Baseline("boundary")),
        )
        for name, track in rules.tracks().items()
        if track.challenge == "mnist5k"
    }
    monkeypatch.setattr(rules, "tracks", lambda: small)
    settings = load(
        data_dir=tmp_path, workers=0, baselines="none", sandbox="process", poll_seconds=0.05
    )
    database = Database(settings.url)
    migrations.upgrade(database)
    with database.write() as session:
        challenges.open_first(session, settings.challenges)
        lifecycle.enter_baselines(session)
    yield World(settings, database, Store(tmp_path / "artefacts"))
    database.close()


@pytest.fixture
def server_url(world: World, serve: Callable[[FastAPI], str]) -> str:
    """The real server on a port of its own, in a thread, over the world's database."""
    return serve(create_app(world.settings))


@pytest.fixture
def client(server_url: str) -> Iterator[httpx.Client]:
    """A client that asks for pages as a browser does."""
    headers = {"accept": "text/html"}
    with httpx.Client(base_url=server_url, headers=headers, timeout=60) as made:
        yield made


@pytest.fixture(scope="module")
def browser(chromium_path: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium_path, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def page(browser: Browser, server_url: str) -> Iterator[Page]:
    """A page whose console must stay silent."""
    context = browser.new_context(base_url=server_url, viewport={"width": 1280, "height": 900})
    made = context.new_page()
    made.set_default_timeout(30_000)
    said: list[str] = []

    def listen(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            said.append(message.text)

    made.on("console", listen)
    made.on("pageerror", lambda error: said.append(str(error)))
    yield made
    context.close()
    assert said == []
