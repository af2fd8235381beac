"""The small server as a fixture."""

from tests.unit.kubeapi.small_server import server

__all__ = ["server"]
