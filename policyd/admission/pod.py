"""A pod as the API server shows it before it is stored: as it was written, and typed what we look at."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from policyd.admission.annotations import Problem
from policyd.admission.injection import CONTAINERS
from policyd.resources import workload
from policyd.resources.read_workloads import without_nulls

_PLACE = re.compile(r" - at `\$([^`]*)`$")
LISTS: Final = ("initContainers", "containers", "ephemeralContainers")


class _Part(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """A part of a pod; what isn't named is skipped."""


class Capabilities(_Part, frozen=True):
    """Capabilities of a container."""

    add: tuple[str, ...] = ()


class SecurityContext(_Part, frozen=True):
    """Of a container or a whole pod."""

    run_as_user: int | None = None
    privileged: bool = False
    capabilities: Capabilities = Capabilities()


class Mount(_Part, frozen=True):
    """A volume, or a device, in a container."""

    name: str = ""
    mount_path: str = ""


class Container(workload.Container, frozen=True):
    """A container of any of the three lists."""

    security_context: SecurityContext = SecurityContext()
    volume_mounts: tuple[Mount, ...] = ()
    volume_devices: tuple[Mount, ...] = ()
    target_container_name: str = ""


class Volume(_Part, frozen=True):
    """A volume, by name."""

    name: str


class OperatingSystem(_Part, frozen=True):
    """`spec.os`."""

    name: str = ""


class Spec(_Part, frozen=True):
    """`spec` of a pod."""

    containers: tuple[Container, ...] = ()
    init_containers: tuple[Container, ...] = ()
    ephemeral_containers: tuple[Container, ...] = ()
    volumes: tuple[Volume, ...] = ()
    security_context: SecurityContext = SecurityContext()
    node_selector: Mapping[str, str] = {}
    os: OperatingSystem = OperatingSystem()
    host_network: bool = False
    host_pid: bool = msgspec.field(default=False, name="hostPID")
    share_process_namespace: bool = False

    @property
    def placed(self) -> Iterator[tuple[str, Container]]:
        """All containers, each with its path."""
        lists = (self.init_containers, self.containers, self.ephemeral_containers)
        for name, containers in zip(LISTS, lists, strict=True):
            for index, container in enumerate(containers):
                yield f"spec.{name}[{index}]", container

    @property
    def foreign(self) -> Iterator[tuple[str, Container]]:
        """All containers that don't have one of our names."""
        return ((path, each) for path, each in self.placed if each.name not in CONTAINERS)


class Metadata(_Part, frozen=True):
    """`metadata` of a pod."""

    name: str = ""
    generate_name: str = ""
    labels: Mapping[str, str] = {}
    annotations: Mapping[str, str] = {}


class _Typed(_Part, frozen=True):
    metadata: Metadata = Metadata()
    spec: Spec = Spec()


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod, or the template of one: `written`, less what is null, is never changed.

    `given` is the same but where its probes ask a proxy already: `written` has them as they were declared.
    """

    written: Mapping[str, Any]
    metadata: Metadata
    spec: Spec
    given: Mapping[str, Any]


def read_pod(written: object) -> Pod | Problem:
    """Return the pod, or what of it isn't what the API's schema says."""
    if not isinstance(written, Mapping):
        return Problem("object", "expected a pod")
    plain = without_nulls(written)
    try:
        typed = msgspec.convert(plain, _Typed)
    except msgspec.ValidationError as error:
        text = str(error)
        place = _PLACE.search(text)
        message = text[: place.start()] if place else text
        return Problem((place[1] if place else "").lstrip(".") or "object", message[0].lower() + message[1:])
    if not typed.spec.containers:
        return Problem("spec.containers", "missing: expected at least one container")
    assert isinstance(plain, Mapping)  # noqa: S101 - what is left of a mapping
    return Pod(plain, typed.metadata, typed.spec, plain)
