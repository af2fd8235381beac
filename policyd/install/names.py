"""Names that the parts of an install find one another by."""

from __future__ import annotations

from typing import Any

from policyd.audit_api.names import SECRET
from policyd.status.reports import CONFIG_MAP

PRODUCT = "policyd"
IDENTITY = "identity"
POLICYD = "policyd"
INJECTOR = "injector"
COMPONENTS = (IDENTITY, POLICYD, INJECTOR)
"""Each is a Deployment, a Service and a ServiceAccount of this name; the first two are also SPIFFE IDs."""

ISSUER_SECRET = "policyd-issuer"  # noqa: S105 - a name
"""The issuing certificate and its key, of type kubernetes.io/tls; the root's key is never in the cluster."""
ROOTS = "policyd-trust-roots"
"""The ConfigMap with the roots in PEM, which starts every trust: what identity serves as its bundle."""
ROOTS_KEY = "root.crt"
INJECTOR_SECRET = "policyd-injector-tls"  # noqa: S105 - a name
"""The injector's serving certificate; the injector fills it."""
AUDIT_SECRET = SECRET
"""The audit API's serving certificate; policyd fills it."""
WEBHOOKS = "policyd-injector"
"""The name of both webhook configurations."""
VALIDATOR = "policyd-validator"
STORED = "policyd-install"
"""The ConfigMap with the settings of the install, which `upgrade` and `uninstall` read."""
STORED_KEY = "settings.json"
ACKNOWLEDGED = CONFIG_MAP
"""The ConfigMap in which replicas of policyd tell what their proxies acknowledged."""
AUDIT_CLAIM = "policyd-audit"
SETTINGS_KEY = "settings.json"

INJECT_LABEL = "policyd.dev/inject"
SCRAPE_LABEL = "policyd.dev/scrape"
"""On a namespace, `allowed`: its pods may read /metrics of the control plane."""
RUN_AS = 65532
"""User and group of the control plane's processes: nobody's, and not the proxy's."""

COMPONENT_LABEL = "app.kubernetes.io/component"


def labels(component: str | None = None) -> dict[str, str]:
    """Return the labels of an object; of the whole install where no component is named."""
    common = {"app.kubernetes.io/name": PRODUCT, "app.kubernetes.io/part-of": PRODUCT}
    return common if component is None else common | {COMPONENT_LABEL: component}


def selector(component: str) -> dict[str, str]:
    """Return what selects a component's pods. A Deployment's selector can never change, so this can't."""
    return {"app.kubernetes.io/name": PRODUCT, COMPONENT_LABEL: component}


def cluster_name(component: str) -> str:
    """Return the name of a component's cluster-scoped objects."""
    return PRODUCT if component == POLICYD else f"{PRODUCT}-{component}"


def meta(name: str, component: str | None = None, namespace: str | None = None) -> dict[str, Any]:
    """Return an object's metadata."""
    made: dict[str, Any] = {"name": name}
    if namespace is not None:
        made["namespace"] = namespace
    return made | {"labels": labels(component)}
