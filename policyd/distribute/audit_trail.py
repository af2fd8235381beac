"""The audit trail of one policyd: its store, its service, what it keeps of policy itself."""

from __future__ import annotations

from identity.spiffe_id import SpiffeId, TrustDomain
from policyd.audit.database import Database
from policyd.audit.keeping import DatabaseStore
from policyd.audit.lite import SqliteDatabase
from policyd.audit.metrics import AuditMetrics
from policyd.audit.record import Writer
from policyd.audit.retention import Bounds
from policyd.audit.service import AuditStreamService
from policyd.distribute.controller import Controller
from policyd.distribute.credentials import Credentials
from policyd.distribute.relayed import RelayedStream
from policyd.distribute.service import leaf_of
from policyd.distribute.settings import Settings
from policyd.distribute.trail import Trail


def _database(settings: Settings) -> Database:
    if settings.audit.postgres is None:
        return SqliteDatabase(settings.audit_folder)
    from policyd.audit.postgres import PostgresDatabase  # noqa: PLC0415 — a client that others don't need

    return PostgresDatabase(settings.audit.postgres)


class AuditTrail:
    """Starts with policyd and ends with it. Whatever fails here, policy goes on being told."""

    def __init__(self, settings: Settings, controller: Controller, credentials: Credentials) -> None:
        own = SpiffeId.of_service_account(TrustDomain(settings.trust_domain), settings.namespace, "policyd")
        writer = Writer(str(own), "", settings.namespace, "policyd", "")
        bounds = Bounds(settings.audit.age, settings.audit.size_bytes)
        self.store = DatabaseStore(_database(settings), writer, credentials, bounds)
        self.service = AuditStreamService(self.store, self._identify)
        self.metrics = AuditMetrics(self.store, self.service.refused)
        self._controller = controller
        self._trail = Trail(self.store)

    def start(self) -> None:
        """Open the store, and keep what is told from now on."""
        self.store.in_force = self._trail.in_force
        self.store.start()
        self._controller.trail = self._trail

    def close(self) -> None:
        """Write what waits, and sign the ends of all chains."""
        self._trail.close()
        self.store.close()

    def _identify(self, stream: RelayedStream) -> Writer:
        return self._controller.writer(leaf_of(stream.leaf_der))
