"""Install settings: what `policyctl install` and the chart's values may say. Unknown keys are refused."""

from __future__ import annotations

import importlib.metadata
import ipaddress
import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from pydantic.fields import FieldInfo

from identity.spiffe_id import TrustDomain
from policyd.model.names import is_namespace_name
from policyd.resources.mesh_defaults import CLUSTER_NETWORKS
from policyd.resources.spec import Access
from servicekit.config import Config

MAX_NETWORKS = 256
"""As many as MeshDefaults takes."""
VERSION = importlib.metadata.version("policyd")
_IMAGE = re.compile(r"[a-z0-9]([a-z0-9._:/-]{0,250}[a-z0-9])?")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_QUANTITY = re.compile(r"[1-9][0-9]{0,8}(m|Ki|Mi|Gi|Ti)?")
_OBJECT = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")


def _matching(pattern: re.Pattern[str], expected: str) -> AfterValidator:
    def check(text: str) -> str:
        if not pattern.fullmatch(text):
            raise ValueError(f"expected {expected}")
        return text

    return AfterValidator(check)


def _pattern(pattern: str) -> FieldInfo:
    """Return the schema's part of a text's check, for the chart's values."""
    found: FieldInfo = Field(json_schema_extra={"pattern": f"^{pattern}$"})
    return found


def _namespace(name: str) -> str:
    if not is_namespace_name(name):
        raise ValueError("expected a namespace's name: lower-case letters, digits and `-`")
    if name in ("kube-system", "kube-public", "kube-node-lease", "default"):
        raise ValueError("expected a namespace of its own, not one of the cluster's")
    return name


def _network(text: str) -> str:
    return str(ipaddress.ip_network(text))


def _listed(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


TrustDomainName = Annotated[
    str, AfterValidator(lambda name: TrustDomain(name).name), _pattern("[a-z0-9._-]{1,255}")
]
Repository = Annotated[
    str,
    _matching(_IMAGE, "an image's name without its tag, e.g. localhost/policyd"),
    _pattern(_IMAGE.pattern),
]
Tag = Annotated[str, _matching(_TAG, "an image's tag"), _pattern(_TAG.pattern)]
Quantity = Annotated[
    str, _matching(_QUANTITY, "a quantity, e.g. 100m, 64Mi or 10Gi"), _pattern(_QUANTITY.pattern)
]
ObjectName = Annotated[
    str,
    _matching(_OBJECT, "an object's name: lower-case letters, digits, `-` and `.`"),
    _pattern(_OBJECT.pattern),
]
Networks = Annotated[
    tuple[Annotated[str, AfterValidator(_network), _pattern("[0-9a-fA-F.:]+/[0-9]{1,3}")], ...],
    Field(min_length=1, max_length=MAX_NETWORKS),
    BeforeValidator(_listed),
]


class Images(Config):
    """Which images run. None is published: `make images` makes them, a registry or a node is given them."""

    control_plane: Repository = "localhost/policyd"
    proxy: Repository = "localhost/policyd-proxy"
    tag: Tag = VERSION
    pull_policy: Literal["IfNotPresent", "Always", "Never"] = "IfNotPresent"


class CertManagerIssuer(Config):
    """The cert-manager issuer that signs identity's issuing certificate."""

    name: ObjectName
    kind: Literal["Issuer", "ClusterIssuer"] = "ClusterIssuer"


class Issuer(Config):
    """Who writes the Secret with the certificate that signs workloads' certificates.

    `provided`: `install`, with material that it made or was given; `existing`: somebody else;
    `cert-manager`: cert-manager.
    """

    kind: Literal["provided", "existing", "cert-manager"] = "provided"
    cert_manager: CertManagerIssuer | None = None

    @model_validator(mode="after")
    def _names_its_issuer(self) -> Self:
        if (self.kind == "cert-manager") != (self.cert_manager is not None):
            raise ValueError("expected certManager with kind: cert-manager, and only with it")
        return self


class AuditStorage(Config):
    """Where policyd keeps denials: `pod` (gone with the pod), a `claim` on a volume, or `postgres`."""

    kind: Literal["pod", "claim", "postgres"] = "pod"
    size: Quantity = "2Gi"
    storage_class: ObjectName | None = None
    secret: ObjectName | None = None
    """With `postgres`: the Secret with a connection string (key `connection`); whoever installs makes it."""
    port: Annotated[int, Field(ge=1, le=65535)] = 5432
    """With `postgres`: where the database listens, which the NetworkPolicy lets policyd reach."""

    @model_validator(mode="after")
    def _names_its_database(self) -> Self:
        if (self.kind == "postgres") != (self.secret is not None):
            raise ValueError("expected secret with kind: postgres, and only with it")
        return self


class Resources(Config):
    """What a component's pod is given."""

    cpu: Quantity
    memory: Quantity
    limit: Quantity
    """Of memory. CPU has none: throttled, it would only be slow."""


class ComponentResources(Config):
    """Of each component. policyd's grows with the cluster: about 400 MB at 10,000 pods and policies."""

    identity: Resources = Resources(cpu="100m", memory="96Mi", limit="512Mi")
    policyd: Resources = Resources(cpu="100m", memory="192Mi", limit="1Gi")
    injector: Resources = Resources(cpu="50m", memory="96Mi", limit="256Mi")


class InstallSettings(Config):
    """All that can be chosen. What isn't here is the same in every install."""

    trust_domain: TrustDomainName = "cluster.local"
    namespace: Annotated[str, AfterValidator(_namespace)] = "policyd"
    ha: bool = False
    default_access: Access = "audit"
    cluster_networks: Networks = CLUSTER_NETWORKS
    images: Images = Images()
    issuer: Issuer = Issuer()
    audit: AuditStorage = AuditStorage()
    resources: ComponentResources = ComponentResources()

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.ha and self.audit.kind == "claim":
            raise ValueError(
                "audit.kind claim: two replicas can't share one volume; expected ha: false, or postgres"
            )
        return self
