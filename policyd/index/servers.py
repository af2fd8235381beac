"""The Servers of one namespace, found by the labels that they select."""

from __future__ import annotations

from policyd.index.claims import Claim, claim_of, concerns
from policyd.index.shapes import Shape
from policyd.model.names import ObjectKey
from policyd.resources.base import Resource, Unreadable

Object = Resource[object] | Unreadable
_Label = tuple[str, str]


class ServerIndex:
    """Finds a workload's Servers among those that select one of its labels, and those that select by none."""

    def __init__(self) -> None:
        self.by_key: dict[ObjectKey, Object] = {}
        self._by_label: dict[_Label | None, dict[ObjectKey, Object]] = {}

    def add(self, server: Object) -> None:
        self.by_key[server.key] = server
        self._by_label.setdefault(_label_of(claim_of(server)), {})[server.key] = server

    def remove(self, server: Object) -> None:
        del self.by_key[server.key]
        label = _label_of(claim_of(server))
        del self._by_label[label][server.key]
        if not self._by_label[label]:
            del self._by_label[label]

    def concerning(self, shape: Shape) -> list[Object]:
        """Return the Servers that can have an effect on a workload of the namespace, in no order."""
        candidates = [self._by_label.get(label, {}) for label in (None, *shape.labels)]
        return [server for found in candidates for server in found.values() if concerns(server, shape)]


def _label_of(claim: Claim | None) -> _Label | None:
    """Return a label that a workload must have to be selected; None where there is no such label."""
    return None if claim is None else min(claim.selector.match_labels.items(), default=None)
