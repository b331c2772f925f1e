"""The worker: claims jobs, runs them on an executor, keeps their leases, tidies up.

Three threads beside the executor's: the *dispatcher* drains the outbox and claims no more than the
free slots; the *heart* beats for every held job and stops the ones that are lost or cancelled; the
*housekeeper* takes back expired leases and removes leftovers. All of them may die at any moment:
what they know is in the database.
"""

from __future__ import annotations

import logging
import os
import platform
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from bench.errors import InfrastructureError

from . import facts, frozen, housekeeping, jobs, lifecycle, rules
from .db.engine import Database
from .db.tables import Job, Match, Submission
from .jobs import Held, Superseded
from .logs import belongs_to
from .plays import EntryFacts, Fault, Findings, Player
from .settings import Settings

logger = logging.getLogger(__name__)

LOST_AFTER = 0.75
"""Share of a lease without a heartbeat after which a worker gives up its own sandboxes."""
TIDY_SECONDS = 60.0
COLLECT_SECONDS = 3600.0


@dataclass
class Holding:
    """A job that this worker holds. ``stop`` ends its sandboxes; the flags say why."""

    held: Held
    stop: threading.Event = field(default_factory=threading.Event)
    beaten: float = field(default_factory=time.monotonic)
    cancelled: bool = False
    lost: bool = False


class Worker:
    """Runs jobs until it is stopped.

    ``owner`` marks its leases; ``executor`` is where jobs run (threads by default, as a job
    drives a sandbox and waits).
    """

    def __init__(
        self,
        settings: Settings,
        database: Database,
        player: Player,
        *,
        owner: str,
        executor: Executor | None = None,
    ) -> None:
        self.settings = settings
        self.database = database
        self.player = player
        self.owner = owner
        self.host = platform.node()
        self._executor = executor or ThreadPoolExecutor(settings.workers, "job")
        self._holdings: dict[str, Holding] = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._stopped = threading.Event()
        self._wake = threading.Event()
        self._threads: list[threading.Thread] = []
        self._collected = time.monotonic()

    @property
    def alive(self) -> bool:
        """Whether all its threads run."""
        return bool(self._threads) and all(thread.is_alive() for thread in self._threads)

    @property
    def busy(self) -> int:
        """How many jobs it holds."""
        with self._lock:
            return len(self._holdings)

    def start(self, instance: str | None = None) -> None:
        """Take back what ran when the last process died, then start the threads.

        ``instance``: the data folder's name, when its lock proves that nobody else uses it.
        """
        self._limit_threads()
        housekeeping.reap(self.database, self.player.provider, nothing_lives=instance is not None)
        housekeeping.expire(self.database, instance=instance)
        for name, loop, pause in (
            ("dispatcher", self.dispatch, self.settings.poll_seconds),
            ("heart", self.beat, self.settings.heartbeat_seconds),
            ("housekeeper", self._tidy, TIDY_SECONDS),
        ):
            wake = self._wake if name == "dispatcher" else self._stopped
            thread = threading.Thread(
                target=self._every, args=(loop, pause, wake), name=name, daemon=True
            )
            self._threads.append(thread)
            thread.start()

    def wake(self) -> None:
        """There may be something to do."""
        self._wake.set()

    def stop(self) -> None:
        """Stop in order: no new jobs, sandboxes closed, running jobs given back unharmed."""
        self.stop_claiming()
        self._executor.shutdown(wait=True)
        self._stopped.set()
        self._wake.set()
        for thread in self._threads:
            thread.join()

    def stop_claiming(self) -> None:
        """Claim no more, and close the sandboxes of what runs: those jobs are given back."""
        self._stopping.set()
        with self._lock:
            for holding in self._holdings.values():
                holding.stop.set()

    def run_job(self, job_id: str, fence: int) -> None:
        """Run a claimed job and record what came of it. Never raises."""
        holding = self._holdings.get(job_id)
        if holding is None or holding.held.fence != fence:
            return
        try:
            with belongs_to(job_id=job_id, fence=fence):
                self._run(holding)
        finally:
            with self._lock:
                if self._holdings.get(job_id) is holding:
                    del self._holdings[job_id]
            self._wake.set()

    def _run(self, holding: Holding) -> None:
        held = holding.held
        try:
            with self.database.write() as session:
                jobs.begin(session, held.job_id, held.fence)
            self.play_and_record(holding)
        except Superseded as superseded:
            logger.warning("%s; its result is discarded", superseded)
        except Exception:
            logger.exception("the job stopped without a record; its lease will run out")

    def play_and_record(self, holding: Holding) -> None:
        """Run a job that was begun, and record what came of it. Raises Superseded."""
        held = holding.held
        try:
            findings = self._play(holding)
            shas = facts.store_images(self.player.store, findings)
            logs = facts.store_logs(self.player.store, findings.logs)
            ledger = facts.store_ledger(self.player.store, findings)
        except Fault as fault:
            logs = facts.store_logs(self.player.store, {fault.entry_id: fault.logs})
            self._record_failure(holding, fault, logs)
            return
        except Exception as error:
            self._record_interruption(holding, error)
            return
        with self.database.write() as session:
            jobs.succeed(
                session, held.job_id, held.fence, findings.provenance, logs, ledger_sha256=ledger
            )
            if held.kind == "validate":
                lifecycle.accept(session, held.submission_id)
            elif held.match_id is not None:
                facts.insert(session, held, findings, shas)
                told = lifecycle.board_changed(session.get_one(Match, held.match_id))
                jobs.post(session, held.job_id, "board", told)

    def _play(self, holding: Holding) -> Findings:
        held = holding.held
        with self.database.read() as session:
            submission = session.get_one(Submission, held.submission_id)
            match = session.get(Match, held.match_id) if held.match_id is not None else None
            own = entry_facts(submission)
            sides = [entry_facts(match.model), entry_facts(match.attack)] if match else []
            sharing = frozen.sharing(session, match.rules_version) if match else []
        label = (held.job_id, held.fence)
        if match is None:
            track = rules.track(submission.track)
            try:
                return self.player.validate(own, track, label, holding.stop)
            except Fault:
                self.player.forget(own)
                raise
        if not sharing:
            raise InfrastructureError(f"no track has the rules {match.rules_version} any more")
        return self.player.match(sides[0], sides[1], sharing[0], label, holding.stop)

    def _record_failure(self, holding: Holding, fault: Fault, logs: dict[str, str]) -> None:
        """A submission's own failure: final, with its reason."""
        held = holding.held
        with self.database.write() as session:
            job = jobs.fail_user(
                session,
                held.job_id,
                held.fence,
                str(fault),
                fault_id=fault.entry_id,
                exit_code=fault.exit_code,
                oom=fault.oom,
                logs=logs,
                provenance={"failure": fault.kind},
            )
            lifecycle.job_ended(session, job, ours=False)

    def _record_interruption(self, holding: Holding, error: Exception) -> None:
        """Not the submission's fault: told to stop, or we failed."""
        held = holding.held
        if holding.lost:
            logger.warning("the lease was lost; nothing is recorded")
            return
        with self.database.write() as session:
            if holding.cancelled:
                job = jobs.stop_cancelled(session, held.job_id, held.fence)
                lifecycle.job_ended(session, job, ours=False)
            elif self._stopping.is_set():
                jobs.release(session, held.job_id, held.fence)
            else:
                logger.error("the job failed by our fault", exc_info=error)
                reason = f"{type(error).__name__}: {error}"
                job = jobs.fail_infra(
                    session, held.job_id, held.fence, reason, {"failure": type(error).__name__}
                )
                lifecycle.job_ended(session, job, ours=True)

    def dispatch(self) -> None:
        """Do what finished jobs left to do, then claim jobs for the free slots and start them."""
        housekeeping.drain(self.database)
        while not self._stopping.is_set() and self._free() > 0:
            with self.database.write() as session:
                held = jobs.claim(
                    session,
                    owner=self.owner,
                    host=self.host,
                    lease_seconds=self.settings.lease_seconds,
                )
            if held is None:
                return
            with self._lock:
                before = self._holdings.get(held.job_id)
                if before is not None:  # our own lease ran out; that run must end
                    before.lost = True
                    before.stop.set()
                self._holdings[held.job_id] = Holding(held)
            self._executor.submit(self.run_job, held.job_id, held.fence)

    def _free(self) -> int:
        return self.settings.workers - self.busy

    def beat(self) -> None:
        """Extend the leases of all held jobs; stop those that are lost or to be cancelled."""
        with self._lock:
            holdings = list(self._holdings.values())
        for holding in holdings:
            held = holding.held
            try:
                with (
                    belongs_to(job_id=held.job_id, fence=held.fence),
                    self.database.write() as session,
                ):
                    answer = jobs.beat(
                        session, held.job_id, held.fence, self.settings.lease_seconds
                    )
            except SQLAlchemyError:
                silent = time.monotonic() - holding.beaten
                logger.exception("no heartbeat for %.0f s", silent)
                holding.lost = silent > LOST_AFTER * self.settings.lease_seconds
            else:
                holding.beaten = time.monotonic()
                holding.lost = not answer.ours
                holding.cancelled = answer.cancel
            if holding.lost or holding.cancelled:
                holding.stop.set()

    def _tidy(self) -> None:
        housekeeping.expire(self.database)
        housekeeping.reap(self.database, self.player.provider)
        if time.monotonic() - self._collected > COLLECT_SECONDS:
            self._collected = time.monotonic()
            housekeeping.collect(self.database, self.player.store, self.settings.data_dir)

    def _every(self, loop: Callable[[], None], pause: float, wake: threading.Event) -> None:
        """Call ``loop`` now and then; what goes wrong in it is logged and tried again."""
        while not self._stopped.is_set():
            try:
                loop()
            except Exception:
                logger.exception("the %s stumbled", threading.current_thread().name)
            wake.wait(pause)
            if wake is not self._stopped:
                wake.clear()

    def _limit_threads(self) -> None:
        """Share the cores: half of them for our models, half for the sandboxed entries.

        More threads than cores cost several times the time: they wait for each other at every step.
        """
        import torch

        torch.set_num_threads(max(1, (os.cpu_count() or 1) // max(2, 2 * self.settings.workers)))


def entry_facts(row: Submission) -> EntryFacts:
    """What the player needs of a submission."""
    return EntryFacts(row.id, row.kind, row.source, row.spec, row.sha256)


def open_jobs(database: Database) -> int:
    """How many jobs wait or run; 0 means that the boards are final for now."""
    with database.read() as session:
        return len(session.scalars(select(Job.id).where(Job.state.in_(jobs.OPEN))).all())
