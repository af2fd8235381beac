"""Server: a port of some workloads, in our group and in Linkerd's."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from policyd.resources.selectors import LabelSelector
from policyd.resources.spec import Access, Cel, Items, Spec, shown

Protocol = Literal["unknown", "HTTP/1", "HTTP/2", "gRPC", "opaque", "TLS"]
PathMode = Literal["strict", "merge", "opaque"]


_PORT_NAME = re.compile(r"(?=[a-z0-9-]{1,15}$)[0-9-]*[a-z][a-z0-9-]*", re.ASCII)


def _port(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError(
            f"{shown(value)} is no port: expected a number from 1 to 65535 or a container port's name"
        )
    if isinstance(value, int) and not 1 <= value <= 65535:
        raise ValueError(f"{value} is no port: expected a number from 1 to 65535")
    if isinstance(value, str) and _PORT_NAME.fullmatch(value) is None:
        raise ValueError(
            f"{shown(value)} is no port's name: expected a-z, 0-9 and `-`, at most 15, at least one letter"
        )
    return value


_PORT_CEL = (
    Cel(
        "type(self) != int || (self >= 1 && self <= 65535)",
        "expected a number from 1 to 65535",
        "string(self) + ' is no port: expected a number from 1 to 65535'",
    ),
    Cel(
        "type(self) != string || self.matches('^[0-9-]*[a-z][a-z0-9-]*$')",
        "expected a container port's name",
        "\"'\" + string(self) + \"' is no port's name: "
        'expected a-z, 0-9 and `-`, at most 15, at least one letter"',
    ),
)
PortOrName = Annotated[
    int | str,
    BeforeValidator(_port),
    WithJsonSchema(
        {
            "x-kubernetes-int-or-string": True,
            "maxLength": 15,
            "x-kubernetes-validations": [each.as_schema() for each in _PORT_CEL],
        }
    ),
]
"""A port's number, or the name of container ports."""


class ServerSpec(Spec):
    """A port of the workloads that a selector matches, its protocol and its default (semantics W2, W3)."""

    cel: ClassVar[tuple[Cel, ...]] = (
        Cel(
            "has(self.podSelector) != has(self.externalWorkloadSelector)",
            "expected exactly one of podSelector and externalWorkloadSelector",
        ),
    )
    ours_only: ClassVar[frozenset[str]] = frozenset({"pathMode", "upgrades"})

    pod_selector: LabelSelector | None = None
    """The pods of this namespace whose port this is; `{}` is all of them."""
    external_workload_selector: LabelSelector | None = None
    """The ExternalWorkloads of this namespace whose port this is."""
    port: PortOrName
    """The port's number, or the name of container ports."""
    proxy_protocol: Protocol = "unknown"
    """What the port speaks; `unknown` is detected."""
    access_policy: Access = "deny"
    """Who may reach the port where no policy says otherwise."""
    path_mode: PathMode = "strict"
    """What happens to paths that can be read two ways: refused, merged, or passed on unread."""
    upgrades: Annotated[Items[Literal["websocket"]], Field(max_length=1)] = ()
    """Protocols that an HTTP/1.1 connection may be upgraded to."""

    @model_validator(mode="after")
    def _one_selector(self) -> Self:
        if (self.pod_selector is None) is (self.external_workload_selector is None):
            raise ValueError("expected exactly one of podSelector and externalWorkloadSelector")
        return self

    @classmethod
    def doubtful(cls, written: Mapping[str, object]) -> Iterable[str]:
        """Of two selectors none can be told to be the one that was meant."""
        if {"podSelector", "externalWorkloadSelector"} <= written.keys():
            return ("pod_selector", "external_workload_selector")
        return ()

    @property
    def selector(self) -> LabelSelector:
        """The selector given, over pods or ExternalWorkloads (`pod_selector` is None for these)."""
        found = self.pod_selector if self.pod_selector is not None else self.external_workload_selector
        assert found is not None, "a ServerSpec has one selector"  # noqa: S101
        return found
