"""NetworkPolicies: what reaches the control plane's pods is what the ports table names, and nothing else."""

from __future__ import annotations

from typing import Any

from policyd.install.names import COMPONENTS, IDENTITY, POLICYD, SCRAPE_LABEL, meta, selector
from policyd.install.ports import METRICS, port, ports_of
from policyd.install.settings import InstallSettings

DNS = 53
API_SERVER_PORTS = (443, 6443)
"""Where API servers listen: behind their Service (443), and on their machines (6443, kubeadm's default)."""


def network_policies(settings: InstallSettings) -> list[dict[str, Any]]:
    """Return them: one that denies all, then one per component."""
    return [_deny_all(settings.namespace), *(_of(component, settings) for component in COMPONENTS)]


def _deny_all(namespace: str) -> dict[str, Any]:
    spec = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    return _policy("default-deny", None, namespace, spec)


def _of(component: str, settings: InstallSettings) -> dict[str, Any]:
    # From anywhere: proxies of all namespaces, and an API server that is no pod. TLS says who each is.
    served = [_tcp(each.number) for each in ports_of(component) if each.number != METRICS]
    scraped = {"namespaceSelector": {"matchLabels": {SCRAPE_LABEL: "allowed"}}}
    spec = {
        "podSelector": {"matchLabels": selector(component)},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"ports": served}, {"from": [scraped], "ports": [_tcp(METRICS)]}],
        "egress": _egress(component, settings),
    }
    return _policy(component, component, settings.namespace, spec)


def _egress(component: str, settings: InstallSettings) -> list[dict[str, Any]]:
    rules: list[dict[str, Any]] = [
        {"ports": [{"port": DNS, "protocol": "UDP"}, _tcp(DNS)]},
        {"ports": [_tcp(number) for number in API_SERVER_PORTS]},
    ]
    if component == POLICYD:
        to = {"podSelector": {"matchLabels": selector(IDENTITY)}}
        rules.append({"to": [to], "ports": [_tcp(port(IDENTITY, "grpc").number)]})
        if settings.audit.kind == "postgres":
            rules.append({"ports": [_tcp(settings.audit.port)]})
    return rules


def _tcp(number: int) -> dict[str, Any]:
    return {"port": number, "protocol": "TCP"}


def _policy(name: str, component: str | None, namespace: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": meta(name, component, namespace),
        "spec": spec,
    }
