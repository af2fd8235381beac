"""Which listeners a pod gets: one for each port of each Service, at a port that stays for the run."""

from __future__ import annotations

from collections.abc import Iterable

from policyd.index.world import Object
from policyd.resources.base import Resource
from policyd.resources.cluster import Service
from policyd.up.environment import Listener

_FIRST_PORT = 20001


class ServiceListeners:
    """Ports are given out in the order of names and kept, so that a new Service moves no other's."""

    def __init__(self) -> None:
        self._ports: dict[tuple[str, str, int], int] = {}

    def of(self, objects: Iterable[Object]) -> tuple[Listener, ...]:
        """Return the listeners for all Services there are, by namespace and name, ports as written."""
        found = sorted((each for each in objects if isinstance(each, Resource)), key=lambda each: each.key)
        listeners: list[Listener] = []
        for service in found:
            spec = service.spec
            if not isinstance(spec, Service):
                continue
            for port in spec.ports:
                if port.protocol == "TCP":
                    key = (service.key.namespace, service.key.name, port.port)
                    listen = self._ports.setdefault(key, _FIRST_PORT + len(self._ports))
                    listeners.append(Listener(key[0], key[1], port.name, port.port, listen))
        return tuple(listeners)
