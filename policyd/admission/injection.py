"""What is injected into every pod of an install: whose images, whom the proxy trusts, where it listens."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Final, Literal

from pydantic import AfterValidator

from policyd.model.names import AUDIENCE, PROXY_CONTAINER, is_namespace_name
from servicekit.config import Address, Config

PROXY_UID: Final = 2102
"""The user the proxy runs as; what this user sends isn't redirected, so no other container may have it."""
PROXY_GID: Final = 2102
ADMIN_PORT: Final = 4191
INBOUND_PORT: Final = 4143
OUTBOUND_PORT: Final = 4140
"""The ports Linkerd users know; applications can't have them."""
OWN_PORTS: Final = (OUTBOUND_PORT, INBOUND_PORT, ADMIN_PORT)

PROXY: Final = PROXY_CONTAINER
REDIRECT: Final = "policyd-redirect"
VALIDATE: Final = "policyd-validate"
CONTAINERS: Final = (REDIRECT, VALIDATE, PROXY)
"""Our containers, in their order. No other may have these names."""
VOLUME_PREFIX: Final = "policyd-"
"""Names of volumes that begin so are ours."""

TRUST_BUNDLE_KEY: Final = "ca.pem"
"""The only key of the ConfigMap that holds the roots."""
TOKEN_SECONDS: Final = 3600
"""Lifetime of the projected token; the kubelet renews it at 80 % (research: identity, 3.1)."""

_QUANTITY = re.compile(r"[0-9]{1,12}(\.[0-9]{1,3})?(m|k|Ki|M|Mi|G|Gi)?", re.ASCII)
_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@-]{0,511}", re.ASCII)
_UNITS: Mapping[str, float] = {
    "m": 0.001,
    "": 1,
    "k": 1e3,
    "Ki": 2**10,
    "M": 1e6,
    "Mi": 2**20,
    "G": 1e9,
    "Gi": 2**30,
}


def is_quantity(text: str) -> bool:
    """Whether text is an amount of CPU or memory as Kubernetes writes it."""
    return _QUANTITY.fullmatch(text) is not None


def amount(quantity: str) -> float:
    """Return a quantity in cores or bytes. It must be one."""
    number = quantity.rstrip("kKmMGi")
    return float(number) * _UNITS[quantity[len(number) :]]


def _quantity(text: str) -> str:
    if not is_quantity(text):
        raise ValueError("expected an amount such as 100m or 64Mi")
    return text


def _image(text: str) -> str:
    if _IMAGE.fullmatch(text) is None:
        raise ValueError("expected an image's name")
    return text


def _namespace(text: str) -> str:
    if not is_namespace_name(text):
        raise ValueError("expected a namespace's name")
    return text


Quantity = Annotated[str, AfterValidator(_quantity)]


class ProxyResources(Config):
    """Resources of the proxy's container where the pod's annotations say nothing."""

    cpu_request: Quantity = "10m"
    cpu_limit: Quantity | None = None
    memory_request: Quantity = "32Mi"
    memory_limit: Quantity = "256Mi"
    """Holds the tables, what traffic takes, and the state volume, which is memory."""
    state: Quantity = "96Mi"
    """What key, chain, the last table and records that couldn't be delivered yet may take together."""


class Injection(Config):
    """What `inject` puts into pods. All pods of an install get the same, but for what annotations may say."""

    trust_domain: str = "cluster.local"
    control_plane: Annotated[str, AfterValidator(_namespace)] = "policyd"
    """The namespace of identity and policyd."""
    identity_address: Address = "identity.policyd.svc:9443"
    policy_address: Address = "policyd.policyd.svc:9444"
    audience: str = AUDIENCE
    """Of the projected token: what identity's settings have."""
    image: Annotated[str, AfterValidator(_image)] = "policyd-proxy:0.1.0"
    pull_policy: Literal["IfNotPresent", "Always", "Never"] = "IfNotPresent"
    redirect: Literal["pod", "node"] = "pod"
    """Who redirects a pod's traffic: a step of the pod, with NET_ADMIN, or an agent of the node."""
    resources: ProxyResources = ProxyResources()
    workers: int = 1
    log_level: Literal["error", "warn", "info", "debug"] = "info"
