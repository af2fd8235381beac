"""Denials as Events on the workload that refused, by the replica that its proxy delivers them to.

A record is what a pod says. Who says it is known from its certificate; of the rest only what is of a known
form goes into an Event: no path, no header, no address, nothing a client chose but its identity.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from policyd.audit.record import DENIAL, Facets, Writer, read_facets
from policyd.audit.service import Allowance
from policyd.index.workloads import POD, WORKLOAD_KINDS
from policyd.index.world import World
from policyd.model.names import ObjectKey
from policyd.status.events import Happening, ObjectReference, Recorder
from policyd.status.reasons import DENIED

LOOKED_AT_PER_SECOND = 500.0
"""Records that are read for Events; the trail has all of them. Reading one takes some 5 µs of the loop."""
BURST = 1000.0
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_REASON = re.compile(r"[a-z_]{1,32}(:G[0-9]{1,2})?")
_NAME = re.compile(r"[a-zA-Z0-9./#\[\]-]{1,400}")
_IDENTITY = re.compile(r"spiffe://[a-zA-Z0-9._/-]{1,300}")
_GROUPS = {kind.lower(): (group, kind) for group, kind in WORKLOAD_KINDS}


class Denials:
    """Reads delivered records. `observe` is called on the audit path: it is short, and never raises."""

    def __init__(self, world: World, recorder: Recorder) -> None:
        self.passed_over = 0
        """Records that weren't looked at, because there were too many."""
        self._world = world
        self._recorder = recorder
        self._allowance = Allowance(LOOKED_AT_PER_SECOND, BURST)

    def observe(self, writer: Writer, records: Sequence[bytes]) -> None:
        """Take note of what a writer delivered and the store has kept."""
        for index, record in enumerate(records):
            if self._allowance.spend(1) > 0:
                self._allowance.spend(-1)
                self.passed_over += len(records) - index
                return
            self._observe(writer, record)

    def _observe(self, writer: Writer, record: bytes) -> None:
        facets = read_facets(record)
        if facets.event != DENIAL:
            return
        happening = happening_of(self._world, writer, facets)
        if happening is not None:
            self._recorder.record(happening)


def happening_of(world: World, writer: Writer, facets: Facets) -> Happening | None:
    """Return what is to be told of a denial; None where its workload isn't there any more."""
    pod = reference_to(world, ObjectKey(*POD, writer.namespace, writer.pod))
    regarding = _workload(world, writer.workload) or pod
    if regarding is None:
        return None
    reason = _known(_REASON, facets.reason) or "unknown"
    authorization = _known(_NAME, facets.authorization) or ""
    client = _known(_IDENTITY, facets.peer) or "a client without identity"
    rule = f" by {authorization}" if authorization else ""
    direction = "outbound request to" if facets.direction == "outbound" else "request on"
    hint = ""
    if facets.id is not None and _ID.fullmatch(facets.id):
        hint = f"; policyctl explain {facets.id}"
    note = f"{reason}{rule}: {client}, {direction} port {facets.port or '?'}{hint}"
    cause = ("denial", writer.workload, reason, authorization, client, facets.direction or "")
    related = pod if pod != regarding else None
    return Happening(regarding, cause, DENIED.name, "Decide", note, related)


def _known(form: re.Pattern[str], text: str | None) -> str | None:
    return text if text is not None and form.fullmatch(text) else None


def _workload(world: World, text: str) -> ObjectReference | None:
    """Return the object of a workload (`kind/namespace/name`), where it is known."""
    kind, _, rest = text.partition("/")
    namespace, _, name = rest.partition("/")
    named = _GROUPS.get(kind)
    return None if named is None else reference_to(world, ObjectKey(*named, namespace, name))


def reference_to(world: World, key: ObjectKey) -> ObjectReference | None:
    """Return what an Event about an object of the world is about; None where it isn't there."""
    found = world.objects.get(key)
    if found is None:
        return None
    version = f"{key.group}/{found.version}" if key.group else found.version
    return ObjectReference(version, key.kind, key.namespace, key.name, found.meta.uid or "")
