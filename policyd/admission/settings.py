"""The settings file of `policyd-injector`: JSON, unknown keys refused."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field

from policyd.admission.injection import Injection
from servicekit.config import Address, Config, FilePath


def _listed(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


class Settings(Config):
    """What `policyd-injector --config FILE` reads."""

    namespace: str
    """Its own: where its Service and its Secret are."""
    listen: Address
    metrics_listen: Address | None = None
    service: str = "injector"
    secret: str = "policyd-injector-tls"  # noqa: S105 - a name
    """Where the replicas keep their certificate."""
    mutating_configuration: str = "policyd-injector"
    validating_configuration: str = "policyd-validator"
    """The configurations whose caBundle is kept."""
    names: Annotated[tuple[str, ...], BeforeValidator(_listed), Field(max_length=16)] = ()
    """Names or addresses that the certificate has beside the Service's."""
    client_ca_file: FilePath | None = None
    """Who may call: the authorities (PEM) of the API server's client certificate."""
    kubeconfig: FilePath | None = None
    """Where the API server is; by default that of the cluster this runs in."""
    injection: Injection = Injection()

    @property
    def certificate_names(self) -> tuple[str, ...]:
        """All names in the certificate."""
        own = (f"{self.service}.{self.namespace}.svc", f"{self.service}.{self.namespace}.svc.cluster.local")
        return (*own, *self.names)
