"""How a workload stands now, for whoever explains a denial: its table, and the objects that it tells of."""

from __future__ import annotations

from policyd.audit_api.sight import Enforced, is_policy
from policyd.compile.table import CompiledTable
from policyd.distribute.controller import Controller
from policyd.distribute.table_sources import sources_of
from policyd.errors import ResourceError
from policyd.model.names import CORE, ObjectKey, WorkloadName, parse_workload
from policyd.resources.kinds import key_of


class EnforcedNow:
    """Looks into the controller's world; on its event loop, since that world isn't safe for threads."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller

    def enforced(self, workload: str, namespace: str, pod: str) -> Enforced:
        """Return how a workload stands, as a pod of it has it where that is still there."""
        compiler, world = self._controller.compiler, self._controller.world
        member = ObjectKey(CORE, "Pod", namespace, pod)
        table = compiler.table_of_member(member) or self._table(workload)
        names = () if table is None else sources_of(world, table, member)
        sources = frozenset(key for key in map(key_of, names) if key is not None)
        objects = {
            key: found
            for key, found in world.objects.items()
            if key in sources or (key.namespace == namespace and is_policy(found))
        }
        return Enforced(self._controller.trust_domain, table, objects, sources)

    def _table(self, workload: str) -> CompiledTable | None:
        try:
            name: WorkloadName = parse_workload(workload)
        except ResourceError:
            return None
        return self._controller.compiler.table(name)
