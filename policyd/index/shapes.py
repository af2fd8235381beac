"""Workload shapes: what of a workload decides its rule table (semantics W1)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, NamedTuple

import msgspec

DEFAULT_ACCESS = ("policyd.dev/default-access", "config.linkerd.io/default-inbound-policy")
OPAQUE_PORTS = ("policyd.dev/opaque-ports", "config.linkerd.io/opaque-ports")
ANNOTATIONS = (*DEFAULT_ACCESS, *OPAQUE_PORTS)
"""The annotations, of pods and namespaces, that are part of a table's meaning (decision record 3)."""


class ContainerPort(NamedTuple):
    """A TCP port that a container declares; name "" where it has none."""

    number: int
    name: str


class DeclaredProbe(NamedTuple):
    """A probe that reaches the pod over the network (semantics T6). `headers` are in lower case."""

    port: int
    kind: Literal["http", "tcp", "grpc"]
    target: str = ""
    headers: tuple[str, ...] = ()
    service: str = ""


@dataclass(frozen=True)
class Shape:
    """Equal shapes of one world have the same rule table. Every tuple is sorted."""

    namespace: str
    external: bool = False
    labels: tuple[tuple[str, str], ...] = ()
    service_account: str = "default"
    ports: tuple[ContainerPort, ...] = ()
    probes: tuple[DeclaredProbe, ...] = ()
    annotations: tuple[tuple[str, str], ...] = ()
    key: str = field(init=False, compare=False)

    def __post_init__(self) -> None:
        content = (
            self.external,
            self.labels,
            self.service_account,
            self.ports,
            self.probes,
            self.annotations,
        )
        digest = hashlib.sha256(msgspec.json.encode(content)).hexdigest()
        object.__setattr__(self, "key", f"{self.namespace}/{digest[:32]}")

    @cached_property
    def label_map(self) -> Mapping[str, str]:
        return dict(self.labels)

    @cached_property
    def annotation_map(self) -> Mapping[str, str]:
        return dict(self.annotations)


def relevant(annotations: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Return the annotations that are part of a table's meaning, sorted."""
    return tuple(sorted((name, annotations[name]) for name in ANNOTATIONS if name in annotations))


def sorted_labels(labels: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(labels.items()))
