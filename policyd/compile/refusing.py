"""The table of a workload whose rows the engine refuses: it refuses everything, and says so.

FAIL-CLOSED: keeping the last good table would go on granting what the objects, as they are now, may forbid.
"""

from __future__ import annotations

from policyd.compile.rows import (
    Access,
    ClusterConditions,
    Effect,
    Level,
    PathMode,
    Pools,
    Port,
    Protocol,
    Rule,
    WorkloadPart,
)
from policyd.compile.workload import Compiled
from policyd.engine import READER_VERSION
from policyd.index.targets import namespace_key
from policyd.model.finding import Finding


def refusing(namespace: str, failure: Finding) -> Compiled:
    """Return one `refuse` row on every port, attributed to the namespace (semantics U)."""
    key = namespace_key(namespace)
    rule = Rule(Effect.REFUSE, Level.NAMESPACE, key.text, key.at("spec"))
    other = Port(
        number=0,
        protocol=Protocol.UNKNOWN,
        server="",
        server_origin="",
        access=Access.DENY,
        path_mode=PathMode.STRICT,
        websocket=False,
        cluster_conditions=ClusterConditions.EVALUATE,
        rules=(0,),
        routes=(),
        probes=(),
    )
    rows = WorkloadPart(READER_VERSION, namespace, Pools(), [rule], [], [], other)
    return Compiled(rows, (failure,))
