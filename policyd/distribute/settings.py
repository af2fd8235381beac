"""The settings file of `policyd`: JSON, unknown keys refused."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, field_validator

from identity.spiffe_id import TrustDomain
from policyd.audit.retention import Bounds
from policyd.audit_api.settings import AuditApiSettings
from servicekit.config import Address, Config, Duration, FilePath

LEAST_AUDIT_BYTES = 16 * 1024 * 1024
"""Less isn't worth a store: it would hold some minutes of a bad day."""


def _trust_domain(name: str) -> str:
    return TrustDomain(name).name


def _network(text: str) -> str:
    return str(ipaddress.ip_network(text))


def _listed(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


Folders = Annotated[tuple[FilePath, ...], BeforeValidator(_listed)]
Networks = Annotated[tuple[Annotated[str, AfterValidator(_network)], ...], BeforeValidator(_listed)]


class IdentityPeer(Config):
    """Where policyd's own certificate comes from; it must prove to be `identity` of policyd's namespace."""

    address: Address


def _not_tiny(size: int) -> int:
    if size < LEAST_AUDIT_BYTES:
        raise ValueError(f"expected at least {LEAST_AUDIT_BYTES} bytes")
    return size


class AuditSettings(Config):
    """Where denials are kept (default: `audit` in the state folder), how long, and in how many bytes.

    `postgres` is a file with a connection string: the trail is in that database, in the place of the folder.
    """

    folder: FilePath | None = None
    postgres: FilePath | None = None
    age: Duration = Bounds().age
    size_bytes: Annotated[int, AfterValidator(_not_tiny)] = Bounds().size_bytes


class ClusterSettings(Config):
    """How the API server is reached: with nothing given, by the pod's own service account."""

    kubeconfig: FilePath | None = None
    context: str | None = None


class Settings(Config):
    """What `policyd --config FILE` reads: what it is, whom it trusts, what it reads and where it listens."""

    trust_domain: Annotated[str, AfterValidator(_trust_domain)]
    namespace: str
    listen: Address
    cluster: ClusterSettings | None = None
    folders: Annotated[Folders, Field(validate_default=True)] = ()
    pods_folder: FilePath | None = None
    identity: IdentityPeer
    token_file: FilePath
    roots_file: FilePath
    state_dir: FilePath
    status_socket: FilePath | None = None
    metrics_listen: Address | None = None
    audit: AuditSettings = AuditSettings()
    audit_api: AuditApiSettings | None = None
    """Denials as an API of the cluster; only with `cluster`."""
    extra_cluster_networks: Networks = ()

    @field_validator("folders")
    @classmethod
    def _or_a_cluster(cls, folders: tuple[Path, ...], info: ValidationInfo) -> tuple[Path, ...]:
        if not folders and info.data.get("cluster") is None:
            raise ValueError("expected at least one folder, or `cluster`")
        return folders

    @field_validator("audit_api")
    @classmethod
    def _in_a_cluster(cls, api: AuditApiSettings | None, info: ValidationInfo) -> AuditApiSettings | None:
        if api is not None and info.data.get("cluster") is None:
            raise ValueError("expected `cluster` with it: the API server passes questions on")
        return api

    @property
    def audit_folder(self) -> Path:
        return self.audit.folder or self.state_dir / "audit"

    @property
    def sources(self) -> tuple[Path, ...]:
        """Every folder that policyd reads; the pods' first, since of an object in two the earlier counts."""
        return self.folders if self.pods_folder is None else (self.pods_folder, *self.folders)
