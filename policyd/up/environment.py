"""A container's environment, as the kubelet makes it: services, `env`, the downward API, `$(VAR)`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from policyd.resources.workload import Container, EnvVar

_REFERENCE = re.compile(r"\$\$|\$\(([^()\s]+)\)")
_INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR")


@dataclass(frozen=True, slots=True)
class Listener:
    """A pod's own way to a Service port: its proxy's outbound listener."""

    namespace: str
    service: str
    port_name: str
    port: int
    listen: int

    @property
    def target(self) -> str:
        """`namespace/name:port`, as the proxy's settings have it."""
        return f"{self.namespace}/{self.service}:{self.port}"


def service_variables(listeners: Iterable[Listener], namespace: str, host: str) -> dict[str, str]:
    """Return `SVC_SERVICE_HOST`, `SVC_SERVICE_PORT` (the first port's) and `SVC_SERVICE_PORT_<NAME>`.

    As in Kubernetes, for the pod's own namespace. A Service of another, which has no DNS name here, is
    `SVC_NAMESPACE_SERVICE_…`.
    """
    variables: dict[str, str] = {}
    for each in listeners:
        names = [each.service] if each.namespace == namespace else [f"{each.service}-{each.namespace}"]
        for name in names:
            prefix = _variable(name)
            variables.setdefault(f"{prefix}_SERVICE_HOST", host)
            variables.setdefault(f"{prefix}_SERVICE_PORT", str(each.listen))
            if each.port_name:
                variables[f"{prefix}_SERVICE_PORT_{_variable(each.port_name)}"] = str(each.listen)
    return variables


def _variable(name: str) -> str:
    return re.sub(r"[^A-Z0-9]", "_", name.upper())


def container_environment(
    container: Container, services: Mapping[str, str], fields: Mapping[str, str], inherited: Mapping[str, str]
) -> dict[str, str]:
    """Return all variables of a container; `fields` are the downward API's, by path.

    Nothing of the user's environment but what finds programs and certificates; PYTHONDONTWRITEBYTECODE keeps
    a folder of manifests and applications clean.
    """
    variables = {name: inherited[name] for name in _INHERITED if name in inherited}
    variables |= {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1"}
    variables |= services
    for each in container.env:
        variables[each.name] = _value(each, variables, fields)
    return variables


def _value(variable: EnvVar, before: Mapping[str, str], fields: Mapping[str, str]) -> str:
    if variable.value is not None:
        return expand(variable.value, before)
    reference = variable.value_from.field_ref if variable.value_from is not None else None
    return fields.get(reference.field_path, "") if reference is not None else ""


def expand(text: str, variables: Mapping[str, str]) -> str:
    """Put in `$(VAR)`; `$$` is `$`, and what isn't defined stays as it is written."""

    def put(found: re.Match[str]) -> str:
        name = found[1]
        return "$" if name is None else variables.get(name, found[0])

    return _REFERENCE.sub(put, text)


def command_line(container: Container, variables: Mapping[str, str]) -> list[str]:
    """Return command and args, expanded."""
    words: Sequence[str] = (*container.command, *container.args)
    return [expand(word, variables) for word in words]
