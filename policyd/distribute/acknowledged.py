"""What the connected proxies have acknowledged, as statuses ask for it."""

from __future__ import annotations

from collections.abc import Iterable

from policyd.distribute.controller import Controller
from policyd.engine import Fanout


class ConnectedProxies:
    """The streams of this replica."""

    def __init__(self, controller: Controller, fanout: Fanout) -> None:
        self.controller = controller
        self._fanout = fanout

    def stir(self) -> tuple[object, ...]:
        """Return something that differs whenever an acknowledgement or a connection came or went."""
        figures = self._fanout.figures()
        return figures["acks"], figures["nacks"], figures["streams"], len(self.controller.sessions)

    def acknowledged(self) -> Iterable[tuple[str, bytes]]:
        """Return for each stream its pod (uid, or identity where it has none) and the table, b"" for none."""
        for session in self.controller.sessions:
            view = session.view()
            if view is not None:
                yield session.pod_key, view.enforced
