"""Forms of identity, as manifests write them (semantics I1, I3)."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator, Field, ValidationInfo

from policyd.errors import EngineError
from policyd.model.names import is_namespace_name, is_object_name
from policyd.resources.spec import reading, shown

_INFIX = ".serviceaccount.identity."
_TRUST_DOMAIN = re.compile(r"[a-z0-9._-]{1,255}")
_ACCOUNT_ID = re.compile(r"spiffe://([^/]+)/ns/([^/*]+)/sa/([^/*]+)")
_EXPECTED = (
    "expected a SPIFFE ID such as spiffe://cluster.local/ns/books/sa/web, "
    "spiffe://cluster.local/ns/books/sa/*, spiffe://cluster.local/*, `*`, "
    "or Linkerd's web.books.serviceaccount.identity.linkerd.cluster.local"
)


def from_dns_name(name: str) -> str:
    """Read Linkerd's `<sa>.<ns>.serviceaccount.identity.<cp-ns>.<td>` as the SPIFFE ID form it means (I3).

    `*` may stand for the account. Raises ValueError for any other name.
    """
    account_and_namespace, infix, rest = name.partition(_INFIX)
    account, _, namespace = account_and_namespace.rpartition(".")
    control_plane, _, trust_domain = rest.partition(".")
    if (
        not infix
        or not is_namespace_name(namespace)
        or not is_namespace_name(control_plane)
        or not (account == "*" or is_object_name(account))
        or _TRUST_DOMAIN.fullmatch(trust_domain) is None
    ):
        raise ValueError(f"{shown(name)} is no identity: {_EXPECTED}")
    return f"spiffe://{trust_domain}/ns/{namespace}/sa/{account}"


def _normal(value: object, info: ValidationInfo) -> object:
    if not isinstance(value, str):
        raise ValueError(f"{shown(value)} is no identity: {_EXPECTED}")
    if value == "*":
        return value
    form = value if value.startswith("spiffe://") else from_dns_name(value)
    try:
        reading(info).checks.identity(form)
    except (EngineError, ValueError) as error:
        raise ValueError(f"{shown(value)} is no identity ({error}): {_EXPECTED}") from None
    return form


def _exact(value: object, info: ValidationInfo) -> object:
    form = _normal(value, info)
    if isinstance(form, str) and "*" in form:
        raise ValueError(f"{shown(value)} names more than one identity: expected a SPIFFE ID without `*`")
    return form


def account_of(spiffe_id: str) -> tuple[str, str, str] | None:
    """(trust domain, namespace, service account) of an identity of our form; None for any other."""
    found = _ACCOUNT_ID.fullmatch(spiffe_id)
    return None if found is None else (found[1], found[2], found[3])


IdentityForm = Annotated[str, BeforeValidator(_normal), Field(min_length=1, max_length=2048)]
"""`*`, a SPIFFE ID, or one whose last part is `*`; Linkerd's DNS names already read as these."""

SpiffeId = Annotated[str, BeforeValidator(_exact), Field(min_length=1, max_length=2048)]
"""One identity; Linkerd's DNS name of it already read as the SPIFFE ID."""
