"""The store on a database, whichever it is: its chains, its signed heads, its retention."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import timedelta

import structlog

from policyd.audit import appending, retention
from policyd.audit.appending import Appended
from policyd.audit.chain import CHAIN_BYTES, Head, Link
from policyd.audit.committing import Committer
from policyd.audit.database import Connection, Database
from policyd.audit.heads import HeadRow, Signer
from policyd.audit.queries import Queries
from policyd.audit.record import LOST, Writer
from policyd.audit.retention import Bounds, Removal
from policyd.audit.store import Content, Standing
from policyd.errors import ChainRefused, StoreUnavailable

HEADS_SECONDS = 5.0
"""How long an end of a chain may stand without a signature."""
RETENTION_SECONDS = 60.0
SIZE_SECONDS = 10.0
"""How often it is looked how big it is."""
_HEAD_COLUMNS = (
    "chain, identity, pod_uid, namespace, pod, workload, head_sequence, head_sha256, removed_sequence, "
    "removed_sha256, refused"
)

InForce = Callable[[], Iterable[str]]


class DatabaseStore(Queries):
    """Keeps and answers. Policy is never told from here: whatever fails, tables go on."""

    def __init__(self, database: Database, own: Writer, signer: Signer, bounds: Bounds) -> None:
        """`own` is who policyd's own records are from."""
        super().__init__(database)
        self.in_force: InForce = tuple
        """Versions of what is enforced now, which is kept however old."""
        self._own = own
        self._bounds = bounds
        self._heads = database.heads(signer)
        self._own_chain = secrets.token_bytes(CHAIN_BYTES)
        self._dirty: set[bytes] = set()
        self._signed_all = False
        self._heads_at = self._retained_at = time.monotonic()
        self._kept = self._lost = 0
        self._sized_at = float("-inf")
        self._size = 0
        self._rolled_back = 0
        self._writer = Committer(database, self._upkeep)

    def start(self) -> None:
        """Open, or say in `standing` why not and go on trying."""
        self._writer.start()

    def close(self) -> None:
        """Write what waits, sign the heads, end."""
        self._heads_at = float("-inf")
        self._writer.stop()
        self._database.close()

    def greet(self, writer: Writer, chain: bytes, acknowledged: Head) -> Future[int]:
        """Take up a chain; the future has the sequence up to which it is kept, or raises."""

        def work(connection: Connection) -> int | ChainRefused:
            result = appending.greet(connection, writer, chain, acknowledged)
            if isinstance(result, ChainRefused):
                self._dirty.add(chain)
            return result

        return self._writer.submit(work)

    def append(self, writer: Writer, chain: bytes, links: Sequence[Link]) -> Future[int]:
        """Keep records; the future has the sequence up to which the chain is kept, or raises."""

        def work(connection: Connection) -> Appended | ChainRefused:
            self._dirty.add(chain)
            return appending.append(connection, writer, chain, links)

        kept: Future[int] = Future()
        self._writer.submit(work).add_done_callback(lambda done: self._tell(done, kept))
        return kept

    def keep(self, contents: Sequence[Content]) -> None:
        """Keep bytes, soon. Waits where much is to be written."""
        if not self._writer.soon(lambda connection: appending.keep(connection, contents)):
            structlog.get_logger().warning(
                "audit_content_not_kept", versions=[one.version for one in contents]
            )

    def note(self, json: bytes) -> None:
        """Keep a record of policyd's own, soon. Waits where much is to be written.

        It goes into a chain that begins with this process.
        """
        if not self._writer.soon(lambda connection: self._note(connection, json)):
            structlog.get_logger().warning("audit_note_not_kept", record=json.decode(errors="replace")[:500])

    @property
    def standing(self) -> Standing:
        """Say how it is."""
        return Standing(
            self._database.where, self._writer.problem, self._kept, self._lost, self._size, self._rolled_back
        )

    def _tell(self, done: Future[Appended], kept: Future[int]) -> None:
        """Count what is durable, and tell who waits."""
        failure = done.exception()
        if failure is not None:
            kept.set_exception(failure)
            return
        appended = done.result()
        self._kept += len(appended.added)
        self._lost += sum(each.count or 0 for each in appended.added if each.event == LOST)
        if kept.set_running_or_notify_cancel():
            kept.set_result(appended.sequence)

    def _note(self, connection: Connection, json: bytes) -> None:
        head = self._end_of_own(connection)
        link = Link(head.sequence + 1, head.sha256, json)
        done = appending.append(connection, self._own, self._own_chain, [link], own=True)
        if isinstance(done, ChainRefused):  # whoever changed the chain under us: go on in another
            self._own_chain = secrets.token_bytes(CHAIN_BYTES)
            raise StoreUnavailable(f"policyd's own chain: {done}")
        self._dirty.add(self._own_chain)

    def _end_of_own(self, connection: Connection) -> Head:
        """Return where our chain ends: a transaction that failed leaves it where it was."""
        row = connection.execute(
            "SELECT head_sequence, head_sha256 FROM chains WHERE chain = ?", (self._own_chain,)
        ).fetchone()
        return Head() if row is None else Head(*row)

    def _upkeep(self, connection: Connection) -> None:
        now = time.monotonic()
        if now - self._sized_at >= SIZE_SECONDS:
            self._sized_at, self._size = now, self._database.used_bytes(connection)
        (self._rolled_back,) = connection.execute("SELECT COUNT(*) FROM rollbacks").fetchone()
        if not self._heads.can_sign:
            return
        if now - self._retained_at >= RETENTION_SECONDS:
            self._retained_at = now
            self.retain(connection)
        if now - self._heads_at >= HEADS_SECONDS and (self._dirty or not self._signed_all):
            self._heads_at = now
            self._sign(connection)

    def _sign(self, connection: Connection, removals: Sequence[Removal] = ()) -> None:
        """Vouch for the ends of the chains that grew, and for the beginnings that go now."""
        with self._database.signing(connection):
            self._sign_all(connection, removals)
        self._dirty.clear()
        self._signed_all = True

    def _sign_all(self, connection: Connection, removals: Sequence[Removal]) -> None:
        anew = self._heads.is_long(connection)
        everything = anew or not self._signed_all
        planned = {removal.chain: removal.upto for removal in removals}
        chains = self._dirty | planned.keys()
        rows = connection.execute(f"SELECT {_HEAD_COLUMNS} FROM chains")  # noqa: S608 — our own words
        said = [_head_row(row, planned.get(row[0])) for row in rows if everything or row[0] in chains]
        (store,) = connection.execute("SELECT value FROM meta WHERE name = 'store'").fetchone()
        (told,) = connection.execute("SELECT COUNT(*) FROM rollbacks").fetchone()
        content = {"at": _now(), "store": store, "rollbacks": told, "chains": said}
        last = self._heads.write(connection, content, anew)
        connection.execute(
            "INSERT INTO meta (name, value) VALUES ('heads', ?) "
            "ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            (last,),
        )

    def retain(self, connection: Connection) -> None:
        """Remove what is too old, then what is too much; a bounded part at a time."""
        cutoff = _now() - self._bounds.age // timedelta(milliseconds=1)
        with self._transaction(connection):
            appending.touch(connection, self.in_force())
            retention.forget_excess(connection, self._bounds.size_bytes // 2)
        self._remove(connection, retention.by_age(connection, cutoff))
        for _ in range(retention.SHARE):
            if self._database.used_bytes(connection) <= self._bounds.size_bytes:
                break
            self._remove(connection, retention.by_size(connection))
        with self._transaction(connection):
            retention.forget_contents(connection, cutoff)
        self._database.tidy(connection)

    def _remove(self, connection: Connection, removals: Sequence[Removal]) -> None:
        if not removals:
            return
        self._sign(connection, removals)
        steps = retention.remove(connection, removals)
        going = True
        while going:
            with self._transaction(connection):
                going = next(steps, False)

    @contextmanager
    def _transaction(self, connection: Connection) -> Iterator[None]:
        """Do the block as one; where it fails the connection is closed, which takes it back."""
        self._database.begin(connection)
        yield
        connection.execute("COMMIT")


def _head_row(row: Sequence[object], planned: Head | None) -> HeadRow:
    chain, identity, pod_uid, namespace, pod, workload, sequence, sha256, removed, removed_sha256, refused = (
        row
    )
    if planned is not None:
        removed, removed_sha256 = planned.sequence, planned.sha256
    return {
        "chain": _hex(chain),
        "identity": identity,
        "podUID": pod_uid,
        "namespace": namespace,
        "pod": pod,
        "workload": workload,
        "sequence": sequence,
        "sha256": _hex(sha256),
        "removed": removed,
        "removedSha256": _hex(removed_sha256),
        "refused": refused,
    }


def _hex(content: object) -> str:
    return content.hex() if isinstance(content, bytes) else ""


def _now() -> int:
    return time.time_ns() // 1_000_000
