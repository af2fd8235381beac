"""Workloads: what of a manifest decides, i.e. labels, ports, probes, annotations [W1, W3, T6]."""

from dataclasses import dataclass, field
from typing import Any

from tests.reference.identity import TRUST_DOMAIN, form, of_account
from tests.reference.reading import Unreadable, fields

TEMPLATE_AT = {
    "Deployment": ("spec", "template"),
    "StatefulSet": ("spec", "template"),
    "DaemonSet": ("spec", "template"),
    "ReplicaSet": ("spec", "template"),
    "Job": ("spec", "template"),
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
    "Pod": (),
}
SHORT = {
    "deploy": "deployment",
    "sts": "statefulset",
    "ds": "daemonset",
    "rs": "replicaset",
    "cj": "cronjob",
    "po": "pod",
    "ew": "externalworkload",
}


@dataclass(frozen=True)
class Probe:
    """`kind` is http, tcp or grpc; `target` the path and query of an HTTP probe as declared."""

    kind: str
    port: int
    target: str = ""


@dataclass
class Workload:
    kind: str
    namespace: str
    name: str
    labels: dict[str, str]
    annotations: dict[str, str]
    identity: str
    ports: list[tuple[str, int]] = field(default_factory=list)
    probes: list[Probe] = field(default_factory=list)
    external: bool = False
    readable: bool = True

    @property
    def key(self) -> str:
        return f"{self.kind.lower()}/{self.namespace}/{self.name}"

    def numbers(self, port: int | str) -> list[int]:
        """The ports a number or a container port's name means; none for a name that nothing declares [W2]."""
        if isinstance(port, int):
            return [port]
        return [number for name, number in self.ports if name == port]


def namespace_of(document: dict[str, Any]) -> str:
    return str(document["metadata"].get("namespace") or "default")


def _probe(declared: dict[str, Any], ports: dict[str, int]) -> Probe | None:
    for kind, member in (("http", "httpGet"), ("tcp", "tcpSocket"), ("grpc", "grpc")):
        entry = declared.get(member)
        if entry is None:
            continue
        number = entry.get("port")
        number = ports.get(number) if isinstance(number, str) else number
        if number is None or str(entry.get("scheme") or "HTTP") != "HTTP":
            return None
        path = str(entry.get("path") or "/") if kind == "http" else ""
        return Probe(kind, number, path if path.startswith("/") or kind != "http" else "/" + path)
    return None


def _read_containers(workload: Workload, spec: dict[str, Any]) -> None:
    for container in [*(spec.get("containers") or []), *(spec.get("initContainers") or [])]:
        declared = [port for port in container.get("ports") or [] if port.get("protocol", "TCP") == "TCP"]
        named = {port["name"]: port["containerPort"] for port in declared if port.get("name")}
        workload.ports += [(port.get("name") or "", port["containerPort"]) for port in declared]
        for kind in ("livenessProbe", "readinessProbe", "startupProbe"):
            probe = _probe(container.get(kind) or {}, named)
            if probe and probe not in workload.probes:
                workload.probes.append(probe)


def read_workload(document: dict[str, Any]) -> Workload:
    """A pod or an owner's pod template."""
    template = document
    for step in TEMPLATE_AT[document["kind"]]:
        template = template.get(step) or {}
    metadata, spec = template.get("metadata") or {}, template.get("spec") or {}
    namespace = namespace_of(document)
    account = spec.get("serviceAccountName") or spec.get("serviceAccount") or "default"
    workload = Workload(
        document["kind"],
        namespace,
        document["metadata"]["name"],
        dict(metadata.get("labels") or {}),
        dict(metadata.get("annotations") or {}),
        of_account(namespace, account),
    )
    _read_containers(workload, spec)
    return workload


def read_external(document: dict[str, Any], allowed: set[str]) -> Workload:
    """An ExternalWorkload; one that declares an identity it may not have gets no table [W6].

    `allowed`: the foreign identities that MeshDefaults grants to its namespace.
    """
    spec, metadata = document.get("spec") or {}, document["metadata"]
    namespace = namespace_of(document)
    declared = (spec.get("meshTLS") or spec.get("meshTls") or {}).get("identity")
    readable = True
    try:
        fields(spec, "meshTLS", "meshTls", "ports", "workloadIPs")
        identity = form(declared)
        own = identity.startswith(f"spiffe://{TRUST_DOMAIN}/ns/{namespace}/sa/")
        readable = "*" not in identity and (own or identity in allowed)
    except Unreadable:
        identity, readable = "", False
    workload = Workload(
        "ExternalWorkload",
        namespace,
        metadata["name"],
        dict(metadata.get("labels") or {}),
        dict(metadata.get("annotations") or {}),
        identity,
        external=True,
        readable=readable,
    )
    workload.ports = [(port.get("name") or "", port["port"]) for port in spec.get("ports") or []]
    return workload
