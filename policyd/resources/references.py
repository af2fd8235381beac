"""References from one object to another."""

from __future__ import annotations

from typing import Annotated, ClassVar, Self

from pydantic import Field, ValidationInfo, model_validator

from policyd.model.names import CORE, GATEWAY, LINKERD_POLICY, POLICYD, ObjectKey
from policyd.resources.spec import Cel, NamespaceName, ObjectName, Spec, reading, shown

GroupName = Annotated[str, Field(max_length=253)]
KindName = Annotated[str, Field(min_length=1, max_length=63)]

Kinds = frozenset[tuple[str, str]]
"""(group, kind) pairs that a reference may name."""


def canonical(group: str, kind: str, allowed: Kinds) -> tuple[str, str] | None:
    """Return the allowed pair that a reference means.

    Like Linkerd, without regard to case and with `core` for "".
    """
    group = CORE if group.lower() == "core" else group.lower()
    pairs = (pair for pair in allowed if pair[0] == group and pair[1].lower() == kind.lower())
    return next(pairs, None)


def _named(kinds: Kinds) -> str:
    return ", ".join(sorted(f"{group or 'core'}/{kind}" for group, kind in kinds))


def _only(kinds: Kinds) -> Cel:
    """Make the CEL rule that a reference names one of these kinds, as `canonical` reads it."""
    pairs = sorted(f"{group or 'core'}/{kind.lower()}" for group, kind in kinds)
    group = "(self.group == '' ? 'core' : self.group)"
    expected = f"can't be referred to here: expected one of {_named(kinds)}"
    return Cel(
        f"({group} + '/' + self.kind).lowerAscii() in {pairs}",
        expected,
        f"\"'\" + {group} + '/' + self.kind + \"' {expected}\"",
    )


class _Reference(Spec):
    allowed: ClassVar[Kinds] = frozenset()

    group: GroupName = ""
    """The API group of what is referred to; empty for the core group."""
    kind: KindName
    """The kind of what is referred to."""
    name: ObjectName
    """The name of what is referred to."""

    @model_validator(mode="after")
    def _kind_is_allowed(self) -> Self:
        if canonical(self.group, self.kind, self.allowed) is None:
            hint = ""
            if not self.group and any(kind.lower() == self.kind.lower() for _, kind in self.allowed):
                hint = " (`group` is missing)"
            named = shown(f"{self.group or 'core'}/{self.kind}")
            raise ValueError(
                f"{named} can't be referred to here{hint}: expected one of {_named(self.allowed)}"
            )
        return self

    @property
    def type(self) -> tuple[str, str]:
        """(group, kind), spelled as the kind itself is."""
        return canonical(self.group, self.kind, self.allowed) or (self.group, self.kind)


class TargetRef(_Reference):
    """What a policy is about: an object of its own namespace, or that namespace itself."""

    allowed = frozenset(
        {
            (POLICYD, "Server"),
            (LINKERD_POLICY, "Server"),
            (LINKERD_POLICY, "HTTPRoute"),
            (GATEWAY, "HTTPRoute"),
            (GATEWAY, "GRPCRoute"),
            (CORE, "Namespace"),
        }
    )
    cel = (_only(allowed),)

    @model_validator(mode="after")
    def _namespace_is_own(self, info: ValidationInfo) -> Self:
        own = reading(info).namespace
        if self.type == (CORE, "Namespace") and own and self.name != own:
            raise ValueError(f"{shown(self.name)} is another namespace: expected the policy's own, {own!r}")
        return self

    def key(self, namespace: str) -> ObjectKey:
        """Return the object meant by a policy in `namespace`."""
        group, kind = self.type
        return ObjectKey(group, kind, "" if kind == "Namespace" else namespace, self.name)


class _NamespacedReference(_Reference):
    namespace: NamespaceName | None = None
    """The namespace of what is referred to; by default that of whoever refers."""

    def key(self, namespace: str) -> ObjectKey:
        """Return the object meant by whoever refers to it from `namespace`."""
        group, kind = self.type
        return ObjectKey(group, kind, "" if kind == "Namespace" else self.namespace or namespace, self.name)


class AuthenticationRef(_NamespacedReference):
    """What a client must prove to be, or where it must come from."""

    allowed = frozenset(
        {
            (POLICYD, "MeshTLSAuthentication"),
            (LINKERD_POLICY, "MeshTLSAuthentication"),
            (POLICYD, "NetworkAuthentication"),
            (LINKERD_POLICY, "NetworkAuthentication"),
            (CORE, "ServiceAccount"),
        }
    )
    cel = (_only(allowed),)


class IdentityRef(_NamespacedReference):
    """A ServiceAccount, or a Namespace for all of its ServiceAccounts. It need not exist (semantics I5)."""

    allowed = frozenset({(CORE, "ServiceAccount"), (CORE, "Namespace")})
    cel = (
        _only(allowed),
        Cel(
            "self.kind.lowerAscii() != 'namespace' || !has(self.__namespace__)",
            "a Namespace has no `namespace`: expected the field to be absent",
        ),
    )

    @model_validator(mode="after")
    def _namespaces_have_no_namespace(self) -> Self:
        if self.type == (CORE, "Namespace") and self.namespace is not None:
            raise ValueError("a Namespace has no `namespace`: expected the field to be absent")
        return self
