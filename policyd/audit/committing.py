"""The one thread that writes: what comes within a few milliseconds becomes one transaction."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import structlog

from policyd.audit.database import Connection, Database
from policyd.errors import AuditError, ChainRefused, StoreUnavailable

COMMIT_SECONDS = 0.003
"""How long a job waits for others."""
MOST_JOBS = 4096
"""Jobs that wait; whoever comes then is told that the store is unavailable."""
ROOM_SECONDS = 10.0
"""How long who needs no answer waits until fewer jobs do."""
MOST_OF_ONE_COMMIT = 512
AGAIN_SECONDS = 1.0
"""The pause after a failure before the database is opened again."""
TICK_SECONDS = 0.5
_STOP = None

Work = Callable[[Connection], Any]
Upkeep = Callable[[Connection], None]


@dataclass(frozen=True, slots=True)
class _Job:
    """`done` None: nobody waits, and it is tried again until it succeeds."""

    work: Work
    done: Future[Any] | None


class _Bug(StoreUnavailable):
    """Work that failed by itself; the database is well."""


class Committer:
    """Runs work in transactions. A refusal that work returns is raised to whoever waits, and committed."""

    def __init__(self, database: Database, upkeep: Upkeep) -> None:
        """`upkeep` runs on the same thread, outside of transactions, twice a second and at the end."""
        self.problem: str | None = "not opened yet"
        """Why nothing can be written; None while it can."""
        self._database = database
        self._upkeep = upkeep
        self._jobs: queue.Queue[_Job | None] = queue.Queue(MOST_JOBS)
        self._room = threading.BoundedSemaphore(MOST_JOBS // 2)
        """What nobody waits for leaves half of the places to denials."""
        self._again: list[_Job] = []
        self._connection: Connection | None = None
        self._rest_until = 0.0
        self._thread = threading.Thread(target=self._run, name="audit", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def submit(self, work: Work) -> Future[Any]:
        """Do it, and tell when it is durable."""
        done: Future[Any] = Future()
        try:
            self._jobs.put_nowait(_Job(work, done))
        except queue.Full:
            done.set_exception(StoreUnavailable("too much waits to be written"))
        return done

    def soon(self, work: Work) -> bool:
        """Do it when it can be done; waits for room, and returns False where there is none for too long."""
        if not self._room.acquire(timeout=ROOM_SECONDS):
            return False
        try:
            self._jobs.put(_Job(work, None), timeout=ROOM_SECONDS)
        except queue.Full:
            self._room.release()
            return False
        return True

    def stop(self) -> None:
        """Write what waits, and end."""
        self._jobs.put(_STOP)
        self._thread.join()

    def _run(self) -> None:
        running, looked = True, 0.0
        while running:
            jobs = self._gathered()
            running = _STOP not in jobs
            self._commit([job for job in jobs if job is not None])
            if not running or time.monotonic() - looked >= TICK_SECONDS:
                looked = time.monotonic()
                self._guarded(self._upkeep)
        if self._connection is not None:
            self._connection.close()

    def _gathered(self) -> list[_Job | None]:
        """Wait for a job, then for those that come with it."""
        try:
            jobs = [self._jobs.get(timeout=TICK_SECONDS)]
        except queue.Empty:
            return []
        if jobs[0] is not None and self._jobs.empty():
            time.sleep(COMMIT_SECONDS)
        while len(jobs) < MOST_OF_ONE_COMMIT and jobs[-1] is not None:
            try:
                jobs.append(self._jobs.get_nowait())
            except queue.Empty:
                break
        for job in jobs:
            if job is not None and job.done is None:
                self._room.release()
        return jobs

    def _commit(self, jobs: list[_Job]) -> None:
        again, self._again = self._again, []
        self._together([*again, *jobs])

    def _together(self, waiting: list[_Job]) -> None:
        """Make one transaction of the jobs; where one of them is a bug, the others don't suffer for it."""
        if not waiting:
            return
        results: list[Any] = []

        def all_of_them(connection: Connection) -> None:
            self._database.begin(connection)
            results.extend(job.work(connection) for job in waiting)
            connection.execute("COMMIT")

        failure = self._guarded(all_of_them)
        if isinstance(failure, _Bug):
            if len(waiting) > 1:
                for job in waiting:
                    self._together([job])
                return
        elif failure is not None:
            self._again += [job for job in waiting if job.done is None][-MOST_JOBS:]
        for index, job in enumerate(waiting):
            _tell(job, failure if failure is not None else results[index])

    def _guarded(self, work: Upkeep) -> StoreUnavailable | None:
        """Run on an open database. After a failure it is opened anew: its state isn't known."""
        try:
            work(self._opened())
        except Exception as error:  # a bug must not silence the trail for good
            if isinstance(error, (*self._database.faults, AuditError)):
                self._failed(str(error))
                return StoreUnavailable(str(error))
            structlog.get_logger().exception("audit_store_bug")
            self._close()
            return _Bug(f"internal error: {type(error).__name__}")
        if self.problem is not None:
            structlog.get_logger().info("audit_store_works", where=self._database.where)
        self.problem = None
        return None

    def _opened(self) -> Connection:
        if self._connection is None:
            if time.monotonic() < self._rest_until:
                raise StoreUnavailable(self.problem or "resting")
            self._connection = self._database.writer()
        return self._connection

    def _close(self) -> None:
        """Close, which takes back what isn't committed."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _failed(self, problem: str) -> None:
        if problem != self.problem:
            structlog.get_logger().error("audit_store_failed", where=self._database.where, problem=problem)
        self.problem = problem
        if self._connection is not None or time.monotonic() >= self._rest_until:
            self._rest_until = time.monotonic() + AGAIN_SECONDS
        self._close()


def _tell(job: _Job, result: Any) -> None:
    if job.done is None or not job.done.set_running_or_notify_cancel():
        return
    if isinstance(result, StoreUnavailable | ChainRefused):
        job.done.set_exception(result)
    else:
        job.done.set_result(result)
