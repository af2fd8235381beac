"""Identity forms of a table (semantics I1–I5). Resources hold them validated and in one spelling."""

from __future__ import annotations

ANY = "*"
"""Every verified identity of any trust domain: only what a Deny means by `*` (semantics I2)."""


def everyone_of(trust_domain: str) -> str:
    """Return the form of every identity of a trust domain."""
    return f"spiffe://{trust_domain}/*"


def account_form(trust_domain: str, namespace: str, account: str) -> str:
    """Return the identity of a service account; account `*` is every one of the namespace."""
    return f"spiffe://{trust_domain}/ns/{namespace}/sa/{account}"
