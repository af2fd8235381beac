"""ReferenceGrant: Gateway API's consent to be referred to from another namespace."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from policyd.resources.references import GroupName, KindName
from policyd.resources.spec import Items, NamespaceName, ObjectName, Spec


class GrantFrom(Spec):
    """Who may refer."""

    group: GroupName
    """The group of the kind that refers; empty for the core group."""
    kind: KindName
    """The kind that refers."""
    namespace: NamespaceName
    """The namespace that it refers from."""


class GrantTo(Spec):
    """What may be referred to."""

    group: GroupName
    """The group of what is referred to; empty for the core group."""
    kind: KindName
    """The kind of what is referred to."""
    name: ObjectName | None = None
    """One object; by default all of the kind in the grant's namespace."""


class ReferenceGrantSpec(Spec):
    """References that the grant's namespace consents to."""

    from_: Annotated[Items[GrantFrom], Field(alias="from", min_length=1, max_length=16)]
    """Who may refer."""
    to: Annotated[Items[GrantTo], Field(min_length=1, max_length=16)]
    """What may be referred to."""
